import { randomBytes } from 'node:crypto'
import { MessageClass, Method, StunBuilder } from '../../src/stun/index.ts'
import { Client, Port, host } from './client.ts'
import { cpuSeconds, memoryKiB, type Server } from './servers.ts'

export interface Allocations {
  readonly perSecond: number
  readonly cpuMs: number
  readonly idleKiB: number
}

/** Allocations that are there before any is measured: compilers have done their work then, and memory has its pools. */
const WARM = 1_500
const MEASURED = 2_000
const IN_FLIGHT = 32

/** Each from a socket of its own; they stay while memory is read, and go then. */
export async function allocations(server: Server): Promise<Allocations> {
  const clients: Client[] = []
  const many = async (count: number): Promise<void> => {
    let left = count
    await Promise.all(
      Array.from({ length: IN_FLIGHT }, async () => {
        while (left-- > 0) {
          const client = await Client.open(server.port)
          clients.push(client)
          await client.allocate()
        }
      }),
    )
  }
  try {
    await many(WARM)
    const before = { cpu: cpuSeconds(server), memory: memoryKiB(server), at: performance.now() }
    await many(MEASURED)
    const elapsed = (performance.now() - before.at) / 1_000
    return {
      perSecond: MEASURED / elapsed,
      cpuMs: ((cpuSeconds(server) - before.cpu) / MEASURED) * 1_000,
      idleKiB: (memoryKiB(server) - before.memory) / MEASURED,
    }
  } finally {
    for (let n = 0; n < clients.length; n += 50) {
      await Promise.all(clients.slice(n, n + 50).map((client) => client.close()))
    }
  }
}

export interface Bindings {
  readonly perSecond: number
  readonly cpuPerMillion: number
}

/** Binding requests: from 8 ports, 16 of each on their way; an answer is followed by the next request. */
export async function bindings(server: Server, seconds: number): Promise<Bindings> {
  const path = { remote: { address: host, port: server.port } }
  const ports = await Promise.all(Array.from({ length: 8 }, () => Port.open()))
  const data = new StunBuilder().start(Method.Binding, MessageClass.Request, randomBytes(12)).copy()
  let answers = 0
  let running = true
  for (const { driver } of ports) {
    await Promise.resolve()
    for (let n = 0; n < 16; n++) driver.send({ path, data })
    driver.flush()
  }
  for (const port of ports) {
    port.onDatagram = () => {
      answers++
      if (!running) return true
      port.driver.send({ path, data })
      port.driver.flush()
      return true
    }
  }
  const before = { cpu: cpuSeconds(server), at: performance.now(), answers }
  await new Promise((resolve) => setTimeout(resolve, seconds * 1_000))
  running = false
  const elapsed = (performance.now() - before.at) / 1_000
  const done = answers - before.answers
  const cpu = cpuSeconds(server) - before.cpu
  await Promise.all(ports.map(({ driver }) => driver.close()))
  return { perSecond: done / elapsed, cpuPerMillion: (cpu / done) * 1e6 }
}
