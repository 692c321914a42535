import type { TestContext } from 'node:test'
import type { Path } from '../../../src/core/machine.ts'
import { UdpEndpoint } from '../../../src/socket/index.ts'
import { TestMachine } from './machines.ts'

export async function bound(t: TestContext, host = '127.0.0.1', port = 0): Promise<UdpEndpoint> {
  const endpoint = await UdpEndpoint.bind({ host, port })
  t.after(() => endpoint.close())
  return endpoint
}

/** Resolves when the machine on `endpoint` has had `count` datagrams. */
export function receives(endpoint: UdpEndpoint, machine: TestMachine, count: number): Promise<void> {
  return new Promise((resolve) => {
    endpoint.attach(machine, () => {
      if (machine.received.length === count) resolve()
    })
  })
}

export function say(endpoint: UdpEndpoint, path: Path, ...texts: string[]): void {
  const machine = new TestMachine(() => false)
  machine.outgoing.push(...texts.map((text) => ({ path, data: Buffer.from(text) })))
  endpoint.attach(machine, () => undefined)
}
