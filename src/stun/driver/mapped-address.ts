import { formatAddress, familyOf, type SocketAddress } from '../../core/address.ts'
import { UdpEndpoint } from '../../socket/index.ts'
import type { Timing } from '../client/transaction.ts'
import type { ClientAuth } from '../credentials/client.ts'
import { StunPeerError, StunRedirectError } from '../errors.ts'
import { parseStunUri, type StunUri } from '../uri.ts'
import { StunAgent } from './agent.ts'
import { StunConnection } from './connection.ts'
import { discoverStunServers, type StunResolver } from './discover.ts'
import { abortedError, type StunAnswer } from './exchanges.ts'

export interface MappedAddressOptions {
  /** How to speak to a `stun:` server; default `udp`. */
  readonly transport?: 'udp' | 'tcp'
  /** Only servers with an address of this family, so that the mapped address is of it too. */
  readonly family?: 4 | 6
  /** `new LongTermAuth(username, password)` and the like, for servers that ask for it. */
  readonly auth?: ClientAuth
  /** Certificate authorities in PEM for `stuns:`, in place of the system's. */
  readonly ca?: string | Buffer
  /** Ask from this port, over UDP; default: a port of the moment. */
  readonly endpoint?: UdpEndpoint
  /** Gives up: `AbortSignal.timeout(5_000)`. Without it an unreachable server takes 39.5 s (RFC 8489 §6.2.1). */
  readonly signal?: AbortSignal
  readonly timing?: Partial<Timing>
  readonly resolver?: StunResolver
}

/** What a server sees. */
export interface MappedAddress {
  /** This host's address and port as the server sees them: the reflexive transport address. */
  readonly mappedAddress: SocketAddress
  /** This host's own address and port; the address is `0.0.0.0` or `::` where the socket is bound to all. */
  readonly localAddress: SocketAddress
  /** The server that answered. */
  readonly server: SocketAddress
  readonly transport: 'udp' | 'tcp' | 'tls'
  /** The round trip in milliseconds; undefined when a retransmission makes it ambiguous. */
  readonly rtt: number | undefined
}

/**
 * Asks a STUN server for this host's public address.
 *
 *     const { mappedAddress } = await getMappedAddress('stun:stun.example.org')
 *
 * The addresses of a server are tried together, each 250 ms after the one before (RFC 8305); further servers of the
 * domain only when all of those fail.
 *
 * @throws {StunUsageError} `ERR_NATWORK_STUN_URI`, `ERR_NATWORK_STUN_ABORTED`
 * @throws {StunSystemError} `ERR_NATWORK_STUN_DNS`
 * @throws {StunPeerError} of the last server tried.
 */
export async function getMappedAddress(
  server: string,
  options: MappedAddressOptions = {},
): Promise<MappedAddress> {
  const uri = parseStunUri(server)
  let failure: unknown
  for (const target of await discoverStunServers(uri, options)) {
    try {
      return await firstOf(target, options.signal, (address, signal) =>
        ask(uri, address, { ...options, signal }),
      )
    } catch (error) {
      if (!(error instanceof StunPeerError)) throw error
      failure = error
    }
  }
  throw failure
}

interface AskOptions extends MappedAddressOptions {
  readonly signal: AbortSignal
}

async function ask(uri: StunUri, to: SocketAddress, options: AskOptions): Promise<MappedAddress> {
  const { auth, signal, timing } = options
  const request = { signal, ...(auth && { auth }), ...(timing && { timing }) }
  if (uri.scheme === 'stuns' || options.transport === 'tcp') return askOverStream(uri, to, options, request)

  const endpoint =
    options.endpoint ??
    (await UdpEndpoint.bind({ host: familyOf(to.address) === 6 ? '::' : '0.0.0.0', port: 0 }))
  const agent = new StunAgent(endpoint)
  try {
    return found(await agent.request(to, request), endpoint.address, 'udp')
  } finally {
    agent.close()
    if (endpoint !== options.endpoint) await endpoint.close()
  }
}

async function askOverStream(
  uri: StunUri,
  to: SocketAddress,
  options: AskOptions,
  request: { signal: AbortSignal; auth?: ClientAuth; timing?: Partial<Timing> },
): Promise<MappedAddress> {
  const visited = new Set<string>()
  let server = to
  let servername = uri.host
  let { auth } = request
  for (;;) {
    visited.add(formatAddress(server))
    const tls = { servername, ...(options.ca !== undefined && { ca: options.ca }) }
    const connection = await StunConnection.connect(server, {
      signal: options.signal,
      ...(uri.scheme === 'stuns' && { tls }),
    })
    try {
      const answer = await connection.request({ ...request, ...(auth && { auth }) })
      return found(answer, connection.localAddress, uri.scheme === 'stuns' ? 'tls' : 'tcp')
    } catch (error) {
      // §10: the same transport, the same credentials, never in a circle, only with proof.
      if (!(error instanceof StunRedirectError) || !error.authenticated || error.alternate === undefined)
        throw error
      if (visited.has(formatAddress(error.alternate)) || visited.size > MAX_REDIRECTS) throw error
      server = error.alternate
      servername = error.domain ?? servername
      auth = auth?.fresh()
    } finally {
      connection.close()
    }
  }
}

const MAX_REDIRECTS = 5

function found(
  { response, from, rtt }: StunAnswer,
  localAddress: SocketAddress,
  transport: MappedAddress['transport'],
): MappedAddress {
  const mappedAddress = response.mappedAddress()
  // The client has seen to it that there is one.
  if (mappedAddress === undefined) {
    throw new StunPeerError('ERR_NATWORK_STUN_INVALID_RESPONSE', 'the STUN server says no mapped address')
  }
  return { mappedAddress, localAddress, server: from, transport, rtt }
}

/** Happy Eyeballs (RFC 8305 §5): the next one 250 ms later, or at once when all begun have failed. */
async function firstOf<T>(
  addresses: readonly SocketAddress[],
  signal: AbortSignal | undefined,
  attempt: (address: SocketAddress, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  if (signal?.aborted === true) throw abortedError(signal)
  const others = new AbortController()
  const either = signal === undefined ? others.signal : AbortSignal.any([signal, others.signal])
  try {
    return await new Promise<T>((resolve, reject) => {
      let begun = 0
      let failed = 0
      let timer: NodeJS.Timeout | undefined
      const begin = (): void => {
        clearTimeout(timer)
        const address = addresses[begun]
        if (address === undefined || either.aborted) return
        begun++
        if (begun < addresses.length) timer = setTimeout(begin, ATTEMPT_DELAY)
        attempt(address, either).then(resolve, (error: unknown) => {
          failed++
          if (failed === addresses.length || signal?.aborted === true) {
            clearTimeout(timer)
            reject(error instanceof Error ? error : new Error(String(error)))
          } else if (failed === begun) begin()
        })
      }
      begin()
    })
  } finally {
    others.abort()
  }
}

const ATTEMPT_DELAY = 250
