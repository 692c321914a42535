import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { extname, join } from 'node:path'
import { Client, host } from './client.ts'

export interface Server {
  readonly name: string
  readonly port: number
  readonly child: ChildProcess
}

/** Debian puts servers where users' shells do not look. */
export const PATH = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`

/** @param name one of server.ts's, `coturn`, or `workers-N`: `natwork relay` with so many processes. */
export function start(name: string, port: number): Server {
  const extension = extname(import.meta.url)
  const env = { ...process.env, PATH }
  if (name === 'coturn') {
    const flags = ['-n', '--no-cli', '--no-tls', '--no-dtls', '--no-tcp', '--log-file', '/dev/null']
    const where = ['-L', host, '-E', host, '-p', String(port), '--pidfile', '/dev/null']
    const users = ['-a', '-r', 'bench', '-u', 'user:pass', '--allow-loopback-peers']
    return {
      name,
      port,
      child: spawn('turnserver', [...flags, ...where, ...users], { stdio: 'ignore', env }),
    }
  }
  const workers = /^workers-(\d+)$/.exec(name)?.[1]
  if (workers === undefined) {
    const file = join(import.meta.dirname, `server${extension}`)
    const child = spawn(process.execPath, [...process.execArgv, file, name, String(port)], {
      stdio: ['ignore', 'ignore', 'inherit'],
      env,
    })
    return { name, port, child }
  }
  const folder = mkdtempSync(join(tmpdir(), 'natwork-bench-'))
  process.once('exit', () => {
    rmSync(folder, { recursive: true })
  })
  const file = join(folder, 'relay.yaml')
  const limits = 'limits: { allocations: 100000, allocationsPerUser: 100000, allocationsPerSource: 100000 }'
  writeFileSync(
    file,
    `realm: bench\nusers: { user: pass }\nlisten: ["udp:${host}:${port}"]\nrelay: { addresses: [${host}] }\n` +
      `peers: { allow: [${host}] }\nadmin: false\nlogLevel: error\nrateLimit: false\nworkers: ${workers}\n${limits}\n`,
  )
  const main = join(import.meta.dirname, `../../src/cli/main${extension}`)
  const child = spawn(process.execPath, [...process.execArgv, main, 'relay', '--config', file], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env,
  })
  return { name, port, child }
}

/** Resolves when it answers. */
export async function up({ name, port }: Server): Promise<void> {
  for (let tries = 0; ; tries++) {
    const client = await Client.open(port)
    try {
      await client.allocate()
      return
    } catch (error) {
      if (tries === 3) throw new Error(`${name} does not serve`, { cause: error })
    } finally {
      await client.close()
    }
  }
}

/** Process ids: of the server, and of what it has started. */
export function pidsOf({ child }: Server): number[] {
  const pids: number[] = []
  const visit = (pid: number): void => {
    pids.push(pid)
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
    for (const one of children.split(' ').filter((text) => text !== '')) visit(Number(one))
  }
  if (child.pid !== undefined) visit(child.pid)
  return pids
}

/** Seconds, user and system, of all its processes. */
export function cpuSeconds(server: Server): number {
  return pidsOf(server).reduce((sum, pid) => {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return sum + (Number(fields[11]) + Number(fields[12])) / 100
  }, 0)
}

/** Resident memory of all its processes. */
export function memoryKiB(server: Server): number {
  return pidsOf(server).reduce((sum, pid) => {
    return sum + Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
  }, 0)
}
