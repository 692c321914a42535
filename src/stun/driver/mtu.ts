import { setMaxListeners } from 'node:events'
import { familyOf, type SocketAddress } from '../../core/address.ts'
import { MILLISECOND } from '../../core/machine.ts'
import type { UdpEndpoint } from '../../socket/index.ts'
import { unknown, type Finding } from '../behaviour/report.ts'
import { Attribute } from '../codec/registry.ts'
import { StunPeerError, StunResponseError } from '../errors.ts'
import { StunAgent } from './agent.ts'

/**
 * How large a packet to this server may be, in bytes with its IP header: padded Binding requests (RFC 5780 §7.6) of all
 * usual sizes leave at once, before the way can answer that one was too large and the system begins to cut them up.
 *
 * @throws {StunUsageError} `ERR_NATWORK_STUN_ABORTED`
 */
export async function discoverMtu(
  endpoint: UdpEndpoint,
  server: SocketAddress,
  { signal }: { readonly signal?: AbortSignal } = {},
): Promise<Finding<number>> {
  const agent = new StunAgent(endpoint, { maxPerServer: 2 * SIZES.length })
  const ended = signal && AbortSignal.any([signal])
  if (ended) setMaxListeners(0, ended) // One for each request.
  try {
    let passed: number[] = []
    // All at once share their fate where somebody is held up, or a queue is full: silence is asked again.
    for (let round = 0; round < ROUNDS && Math.max(0, ...passed) === 0; round++) {
      // Each twice: one lost packet is not too large.
      passed = await Promise.all([...SIZES, ...SIZES].map((size) => passedOf(agent, server, size, ended)))
    }
    return verdict(Math.max(...passed), passed)
  } finally {
    agent.close()
  }
}

/** @returns the size; 0 without an answer. */
async function passedOf(
  agent: StunAgent,
  server: SocketAddress,
  size: number,
  signal: AbortSignal | undefined,
): Promise<number> {
  const padding = size - (familyOf(server.address) === 6 ? IPV6_UDP : IPV4_UDP) - FRAME
  try {
    await agent.request(server, {
      timing,
      ...(signal && { signal }),
      attributes: (builder) => builder.zeros(Attribute.Padding, padding),
    })
  } catch (error) {
    // A server that refuses padding has got it all the same.
    if (!(error instanceof StunPeerError)) throw error
    return error instanceof StunResponseError ? size : 0
  }
  return size
}

function verdict(largest: number, passed: readonly number[]): Finding<number> {
  if (largest === 0) return unknown('no padded request was answered: the server may not take them')
  const lost = SIZES.filter((size) => !passed.includes(size))
  return {
    value: largest,
    certain: true,
    observations: [
      `padded requests were answered up to ${largest} bytes` +
        (lost.length > 0 ? `, and those of ${lost.join(', ')} were not` : ', the largest tried'),
    ],
    meaning:
      largest >= SIZES[0]
        ? 'full Ethernet packets pass'
        : `packets must be smaller than on Ethernet: natwork’s are fitted to the path by themselves`,
  }
}

/** With IP header: Ethernet, PPPoE, tunnels and mobile networks, IPv6's least, what any IPv4 host takes. */
const SIZES = [1500, 1492, 1480, 1460, 1440, 1420, 1400, 1380, 1360, 1320, 1280, 576] as const
const IPV4_UDP = 28
const IPV6_UDP = 48
/** STUN's header, the padding's own, and FINGERPRINT. */
const FRAME = 20 + 4 + 8
const ROUNDS = 3
/** One request, a second to answer. */
const timing = { rto: 500 * MILLISECOND, rc: 1, rm: 2 }
