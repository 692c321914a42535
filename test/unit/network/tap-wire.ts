import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import type { TestContext } from 'node:test'
import type { SocketAddress } from '../../../src/core/address.ts'

/** BEP 29's first byte: type and version. */
const [DATA, SYN] = [0x01, 0x41]

/** A UDP port that leads one caller to `server`, closed after the test. */
export async function tapWire(
  t: TestContext,
  server: SocketAddress,
): Promise<{
  readonly address: SocketAddress
  /** Of what the caller sends only SYNs pass, until data comes back on a connection that began from now on. */
  holdBack(): void
}> {
  const [near, far] = [createSocket('udp4'), createSocket('udp4')]
  t.after(() => {
    near.close()
    far.close()
  })
  let caller = 0
  let held: Buffer[] | undefined
  const begun = new Set<number>()
  const forward = (bytes: Buffer): void => far.send(bytes, server.port, server.address)
  near.on('message', (bytes, { port }) => {
    caller = port
    if (held !== undefined && bytes[0] !== SYN) {
      held.push(bytes)
      return
    }
    if (held !== undefined) begun.add(bytes.readUInt16BE(2))
    forward(bytes)
  })
  far.on('message', (bytes) => {
    near.send(bytes, caller, '127.0.0.1')
    if (bytes[0] !== DATA || !begun.has(bytes.readUInt16BE(2))) return
    held?.forEach(forward)
    held = undefined
  })
  near.bind(0, '127.0.0.1')
  far.bind(0, '127.0.0.1')
  await Promise.all([once(near, 'listening'), once(far, 'listening')])
  return {
    address: { address: '127.0.0.1', port: near.address().port },
    holdBack: () => (held = []),
  }
}
