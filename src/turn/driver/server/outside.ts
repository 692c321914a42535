import type { SocketAddress } from '../../../core/address.ts'
import type { Path } from '../../../core/machine.ts'
import type { RelayAddress } from './ports.ts'

/**
 * What the relay's own addresses are called outside, where a 1:1 NAT is in between. Two clients of one relay know each
 * other by those names; the way from one to the other stays inside, since few such NATs send back in what comes from there.
 */
export class Outside {
  readonly #inside = new Map<string, string>()
  readonly #outside = new Map<string, string>()

  constructor(places: readonly RelayAddress[]) {
    for (const { host, external } of places) {
      if (external === undefined || external === host) continue
      this.#inside.set(external, host)
      this.#outside.set(host, external)
    }
  }

  /** Where to send what is for that address. */
  inside(at: SocketAddress): SocketAddress {
    return renamed(this.#inside, at)
  }

  /** As the world knows that address. */
  outside(at: SocketAddress): SocketAddress {
    return renamed(this.#outside, at)
  }

  insidePath(path: Path): Path {
    const remote = this.inside(path.remote)
    return remote === path.remote ? path : { ...path, remote }
  }

  outsidePath(path: Path): Path {
    const remote = this.outside(path.remote)
    return remote === path.remote ? path : { ...path, remote }
  }
}

function renamed(names: ReadonlyMap<string, string>, at: SocketAddress): SocketAddress {
  if (names.size === 0) return at
  const address = names.get(at.address)
  return address === undefined ? at : { ...at, address }
}
