import { createHmac } from 'node:crypto'
import { familyOf, type SocketAddress } from '../core/address.ts'
import type { UdpEndpoint } from '../socket/index.ts'
import { CallbackUsers, RelayHost, type RelayLimits } from '../turn/index.ts'
import type { RelayGrant } from './control.ts'
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

/** Seconds. */
const grantLifetime = 6 * 3_600

/** Small enough for a stranger, large enough for a pipe: the helper's owner can say otherwise. */
const defaultLimits: Partial<RelayLimits> = { allocationsPerUser: 4 }

/**
 * TURN on the node's own port, for nodes that hang on it: credentials come over their control streams, hold for a few hours, and
 * need no memory: the password is an HMAC of the username under a key of the node's own. They outlive a restart, so that
 * clients get their next allocation without asking for other ones first.
 */
export class RelayService {
  readonly #host: RelayHost
  readonly #key: Buffer

  /** Takes its place on the port: before STUN's server, which answers every request. */
  constructor(
    session: Session,
    endpoint: UdpEndpoint,
    own: readonly SocketAddress[],
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
      addresses: firstOfEachFamily(own).map((host) => ({ host })),
      peers: { ...(allow && { allow }), ...(deny && { deny }) },
      limits: { ...defaultLimits, ...limits },
      logger: session.context.logger,
    })
    this.#host.attach(endpoint, 'rfc8656')
  }

  grant(peer: NodeId): RelayGrant {
    const username = `${Math.floor(Date.now() / 1_000) + grantLifetime}:${peer}`
    return { username, password: this.#passwordFor(username), lifetime: grantLifetime }
  }

  stop(): Promise<void> {
    this.#host.close()
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

function firstOfEachFamily(own: readonly SocketAddress[]): string[] {
  return ([4, 6] as const).flatMap((family) => {
    const found = own.find(({ address }) => familyOf(address) === family)
    return found === undefined ? [] : [found.address]
  })
}
