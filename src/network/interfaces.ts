import { networkInterfaces } from 'node:os'
import { familyOf, type SocketAddress } from '../core/address.ts'
import type { Nat64Prefix } from '../core/nat64.ts'
import { scopeOf } from '../core/scope.ts'
import { interfacesFingerprint } from '../ice/index.ts'
import { discoverNat64 } from '../stun/index.ts'

/** Milliseconds between looks: Node.js tells nobody when a machine gets another address. */
const lookEvery = 1_000

/** Tells when this machine's addresses have changed: another network, a cable, a tunnel, a wake-up. */
export class InterfaceWatch {
  #last = ''
  #timer: NodeJS.Timeout | undefined

  start(onChange: () => void): void {
    this.#last = interfacesFingerprint()
    this.#timer = setInterval(() => {
      const now = interfacesFingerprint()
      if (now === this.#last) return
      this.#last = now
      onChange()
    }, lookEvery)
    this.#timer.unref()
  }

  stop(): void {
    clearInterval(this.#timer)
  }
}

/**
 * How a port bound to `bound` reaches IPv4 on a machine that has none (RFC 7050); undefined where it has, or nothing
 * leads there. Takes a round trip to the name server, 3 s when that is silent, and only where there is no IPv4.
 */
export async function findNat64(bound: SocketAddress): Promise<Nat64Prefix | undefined> {
  if (familyOf(bound.address) === 4 || hasIpv4()) return undefined
  const [first] = await discoverNat64()
  return first
}

/** Whether an interface of this machine has an IPv4 address that leads anywhere. */
export function hasIpv4(): boolean {
  return Object.values(networkInterfaces())
    .flatMap((list) => list ?? [])
    .some(
      ({ address, internal }) => !internal && familyOf(address) === 4 && scopeOf(address) !== 'link-local',
    )
}
