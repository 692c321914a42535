import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { promisify } from 'node:util'
import { host } from './client.ts'
import { cpuSeconds, PATH, type Server } from './servers.ts'

export interface UclientSample {
  readonly loss: number
  readonly cpuPerMillion: number
}

/**
 * coturn's own load program, as it paces itself: 10 clients send 1,000 messages of 1,000 bytes each to Debian's
 * `turnutils_peer`, which sends them back: each goes through the server twice. Undefined when it does not get through.
 */
export async function uclient(server: Server, form: 'channels' | 'Send'): Promise<UclientSample | undefined> {
  const port = server.port + 1
  const peer = spawn('turnutils_peer', ['-p', String(port), '-L', host], {
    stdio: 'ignore',
    env: { ...process.env, PATH },
  })
  await once(peer, 'spawn')
  const flags = [
    ...['-u', 'user', '-w', 'pass', '-p', String(server.port), '-e', host, '-r', String(port)],
    ...['-m', String(CLIENTS), '-n', String(MESSAGES), '-l', '1000', '-z', '1', '-c'],
    ...(form === 'Send' ? ['-s'] : []),
  ]
  const before = cpuSeconds(server)
  try {
    const { stdout } = await promisify(execFile)('turnutils_uclient', [...flags, host], {
      timeout: 30_000,
      env: { ...process.env, PATH },
    })
    // It counts aloud: the last word holds.
    const received = Number([...stdout.matchAll(/tot_recv_msgs=(\d+)/g)].at(-1)?.[1])
    if (!(received > 0)) return undefined
    const cpu = cpuSeconds(server) - before
    return { loss: 1 - received / (CLIENTS * MESSAGES), cpuPerMillion: (cpu / (2 * received)) * 1e6 }
  } catch {
    return undefined
  } finally {
    peer.kill('SIGKILL')
  }
}

const CLIENTS = 10
const MESSAGES = 1_000
