import { createHmac } from 'node:crypto'
import type { Socket } from 'node:net'
import type { SocketAddress } from '../core/address.ts'
import { systemRng } from '../core/ports.ts'
import type { UdpEndpoint } from '../socket/index.ts'
import { StunResponder } from '../stun/index.ts'
import { Streams } from '../turn/driver/server/streams.ts'
import { CallbackUsers, RelayHost, type RelayAddress, type RelayLimits } from '../turn/index.ts'
import type { RelayGrant } from './control.ts'
import type { Identity } from './identity.ts'
import type { NodeId } from './node-id.ts'
import { deriveSecret } from './seal-key.ts'
import type { Session } from './session.ts'

/** What relaying for others costs at most; see `natwork/turn`. */
export interface RelayServiceOptions {
  readonly limits?: Partial<RelayLimits>
  /** Blocks (`10.20.0.0/16`) that may be relayed to although the internet does not reach them: for private networks. */
  readonly allow?: readonly string[]
  /** Blocks that nothing is relayed to. */
  readonly deny?: readonly string[]
}

/** Seconds; nonces expire "at least once every hour" (RFC 8656 §5). */
const grantLifetime = 6 * 3_600
const nonceLifetime = 3_600

/** TLS connections of clients at once, in total and from one address; ms that one may last without an allocation. */
const streamLimits = { maxConnections: 4_096, maxConnectionsPerSource: 256, idleTimeout: 30_000 }

/** Small enough for a stranger, large enough for a pipe: the helper's owner can say otherwise. */
const defaultLimits: Partial<RelayLimits> = { allocationsPerUser: 4 }

/**
 * TURN on the node's own port, for nodes that hang on it: credentials come over their control streams, hold for a few hours, and
 * need no memory: the password is an HMAC of the username under a key of the node's own. They outlive a restart, so that
 * clients get their next allocation without asking for other ones first.
 */
export class RelayService {
  readonly #host: RelayHost
  readonly #streams: Streams
  readonly #key: Buffer

  /** Takes its place on the port: before STUN's server, which answers every request. */
  constructor(
    session: Session,
    endpoint: UdpEndpoint,
    places: readonly RelayAddress[],
    { limits, allow, deny }: RelayServiceOptions,
  ) {
    this.#key = deriveSecret(session.identity.privateKey, 'natwork relay credentials 1')
    this.#host = new RelayHost({
      users: new CallbackUsers(
        'natwork',
        (username) => this.#passwordOf(username),
        // A node that asks for other credentials gets no other quotas.
        (username) => username.replace(/^\d+:/, ''),
      ),
      addresses: places,
      peers: { ...(allow && { allow }), ...(deny && { deny }) },
      limits: { ...defaultLimits, ...limits },
      nonceLifetime,
      logger: session.context.logger,
    })
    this.#host.attach(endpoint, 'rfc8656')
    const responder = new StunResponder({ rng: systemRng })
    this.#streams = new Streams(this.#host, responder, { channels: 'rfc8656', ...streamLimits })
  }

  /**
   * Takes over TLS connections of clients, which come by a port that nodes come to as well. The certificate is the node's own:
   * clients know its key.
   */
  overTls({ privateKey, certificate }: Identity): (socket: Socket) => void {
    return this.#streams.guests({
      key: privateKey.export({ type: 'pkcs8', format: 'pem' }),
      cert: certificate,
    })
  }

  /** Nobody is relayed to this TCP port. */
  addListening({ address, port }: SocketAddress): void {
    this.#host.addListening(address, port)
  }

  /** `at`: where the node is seen, which by UDP is where its requests will come from. */
  grant(peer: NodeId, at: SocketAddress | undefined): RelayGrant {
    const username = `${Math.floor(Date.now() / 1_000) + grantLifetime}:${peer}`
    const credentials = { username, password: this.#passwordFor(username), lifetime: grantLifetime }
    if (at === undefined) return credentials
    return { ...credentials, challenge: Buffer.from(this.#host.challenge(at)).toString('base64') }
  }

  stop(): Promise<void> {
    this.#host.close()
    this.#streams.close()
    return Promise.resolve()
  }

  #passwordOf(username: string): string | undefined {
    const expires = Number(/^(\d{1,12}):/.exec(username)?.[1])
    return expires > Date.now() / 1_000 ? this.#passwordFor(username) : undefined
  }

  #passwordFor(username: string): string {
    return createHmac('sha256', this.#key).update(username).digest('base64url')
  }
}
