import { familyOf, type SocketAddress } from '../../core/address.ts'
import { MILLISECOND } from '../../core/machine.ts'
import { systemClock, systemRng } from '../../core/ports.ts'
import { AGENT_PORT } from '../../sim/kinds.ts'
import { synthesize } from '../../sim/prefix64.ts'
import { PunchPeer, type PunchEvent } from '../../sim/reference/peer.ts'
import { SESSION_LENGTH } from '../../sim/reference/wire.ts'
import type { Step, Who } from '../../sim/scenario.ts'
import type { Lab } from '../lab.ts'
import type { Observer } from '../observer.ts'
import { Driven } from './driven.ts'
import type { Place, Places } from './places.ts'

export const HELPER = 'helper'
export const HELPER_PORT = 3478

/**
 * What good news may take longer than in virtual time, where computing takes no time at all: the reference punch's own
 * patience, and more. Bad news is what has not come within the scenario's own time.
 */
const SLACK_MS = 10_000
/** A registration, an introduction and several retries. */
const INTRODUCTION_MS = 2_000

interface Peer {
  readonly machine: PunchPeer
  readonly driven: Driven<PunchEvent>
  introducedAt: number | undefined
  connectedAt: number | undefined
  isOver: boolean
  received: number
}

/** The two peers of one scenario in a lab, and what its steps do to them. */
export class Stage {
  readonly #lab: Lab
  readonly #observer: Observer
  readonly #places: Places
  readonly #signal: AbortSignal
  readonly #session = new Uint8Array(SESSION_LENGTH)
  readonly #peers = new Map<Who, Peer>()
  readonly #dialling = new Set<Who>()
  readonly #watchers = new Set<() => void>()
  #unblock: (() => Promise<void>)[] = []

  constructor(lab: Lab, observer: Observer, places: Places, signal: AbortSignal) {
    this.#lab = lab
    this.#observer = observer
    this.#places = places
    this.#signal = signal
    systemRng.fill(this.#session)
  }

  get connectedAfter(): number | undefined {
    const [a, b] = [this.#peers.get('a'), this.#peers.get('b')]
    if (a?.connectedAt === undefined || b?.connectedAt === undefined) return undefined
    const begin = Math.min(a.introducedAt ?? Infinity, b.introducedAt ?? Infinity)
    return Math.round(Math.max(a.connectedAt, b.connectedAt) - begin)
  }

  /** What went wrong, if anything did. */
  async play(step: Step): Promise<string | undefined> {
    switch (step.do) {
      case 'start':
        await this.#start(step)
        return undefined
      case 'dial': {
        const { machine, driven } = this.#peer(step.who)
        this.#dialling.add(step.who)
        machine.dial(systemClock.now())
        driven.wake()
        return undefined
      }
      case 'wait':
        await this.#until(() => false, step.ms)
        return undefined
      case 'reboot':
        await Promise.all(this.#places.peers[step.who].routers.map((router) => this.#lab.flush(router)))
        return undefined
      case 'block':
        await this.#block()
        return undefined
      case 'unblock':
        await Promise.all(this.#unblock.splice(0).map((lift) => lift()))
        return undefined
      case 'expect':
        return this.#expect(step.direct, step.within)
      case 'send':
        return this.#send(step.who, step.arrives, step.within)
    }
  }

  close(): void {
    for (const { driven } of this.#peers.values()) driven.close()
  }

  async #start({ who, dials, late, openingTtl }: Step & { do: 'start' }): Promise<void> {
    const { host, nat64 } = this.#places.peers[who]
    const own = addressesOf(this.#lab, host)
    const sockets = await Promise.all(own.map((at) => this.#observer.udp(host, at, AGENT_PORT)))
    const machine = new PunchPeer({
      session: this.#session,
      side: who === 'a' ? 0 : 1,
      helpers: helpersFor(this.#lab, own, nat64),
      dials,
      nat64,
      ...(late !== undefined && { late: late * MILLISECOND }),
      ...(openingTtl !== undefined && { openingTtl }),
    })
    if (dials) this.#dialling.add(who)
    const driven = new Driven<PunchEvent>(machine, sockets, (event) => {
      if (event.type === 'introduced') peer.introducedAt ??= performance.now()
      else if (event.type === 'connected') peer.connectedAt = performance.now()
      else if (event.type === 'data') peer.received++
      else peer.isOver = true
      for (const watcher of this.#watchers) watcher()
    })
    const peer: Peer = {
      machine,
      driven,
      introducedAt: undefined,
      connectedAt: undefined,
      isOver: false,
      received: 0,
    }
    this.#peers.set(who, peer)
  }

  /** At the edge of both sites: what else passes there goes on. */
  async #block(): Promise<void> {
    const { a, b } = this.#places.peers
    const edges = [
      [a, b],
      [b, a],
    ] as const
    this.#unblock = await Promise.all(
      edges.flatMap(([here, there]) =>
        publicAddresses(this.#lab, there).map((peer) =>
          this.#lab.block(here.routers.at(-1) ?? here.host, { peer }),
        ),
      ),
    )
  }

  async #expect(direct: boolean, within: number): Promise<string | undefined> {
    const peers = [this.#peer('a'), this.#peer('b')]
    const connected = (): Peer[] => peers.filter((one) => one.connectedAt !== undefined)
    if (!direct) {
      // Silence says something only once the peers know of each other (if ever: UDP may be blocked).
      const dialling = [...this.#dialling].map((who) => this.#peer(who))
      await this.#until(() => dialling.every((one) => one.introducedAt !== undefined), INTRODUCTION_MS)
      await this.#until(() => false, within)
      return connected().length === 0 ? undefined : 'a direct path where none was expected'
    }
    const isOver = (): boolean => peers.some((one) => one.isOver)
    await this.#until(() => connected().length === 2 || isOver(), within + SLACK_MS)
    if (connected().length < 2) return 'no direct path'
    return (await this.#packets()) === 0
      ? 'connected, but no packet crossed the core between them'
      : undefined
  }

  async #send(who: Who, arrives: boolean, within: number): Promise<string | undefined> {
    const from = this.#peer(who)
    const to = this.#peer(who === 'a' ? 'b' : 'a')
    if (from.connectedAt === undefined) return `${who} is not connected`
    const [before, packets] = [to.received, await this.#packets()]
    from.machine.send(Uint8Array.of(before & 255))
    from.driven.wake()
    const arrived = await this.#until(() => to.received > before, within + (arrives ? SLACK_MS : 0))
    if (arrived && packets !== undefined && (await this.#packets()) === packets) {
      return 'the datagram arrived, but did not cross the core between them'
    }
    if (arrived === arrives) return undefined
    return arrived ? 'the datagram arrived' : 'the datagram did not arrive'
  }

  /** Counted on the way between the two sites; undefined where they share a router. */
  #packets(): Promise<number | undefined> {
    return this.#lab.packetsBetween(this.#places.peers.a.host, this.#places.peers.b.host)
  }

  /** Waits until something is so, at most so many milliseconds; tells whether it is. */
  async #until(isSo: () => boolean, within: number): Promise<boolean> {
    if (isSo()) return true
    return new Promise<boolean>((resolve, reject) => {
      const finish = (end: () => void): void => {
        clearTimeout(timer)
        this.#watchers.delete(watcher)
        this.#signal.removeEventListener('abort', onAbort)
        end()
      }
      const watcher = (): void => {
        if (isSo()) finish(() => resolve(true))
      }
      const onAbort = (): void => finish(() => reject(this.#signal.reason as Error))
      const timer = setTimeout(() => finish(() => resolve(isSo())), within)
      this.#watchers.add(watcher)
      this.#signal.addEventListener('abort', onAbort)
      if (this.#signal.aborted) onAbort()
    })
  }

  #peer(who: Who): Peer {
    const peer = this.#peers.get(who)
    if (!peer) throw new Error(`the scenario has not started ${who}`)
    return peer
  }
}

function addressesOf(lab: Lab, name: string): readonly string[] {
  return lab.hosts.find((host) => host.name === name)?.addresses ?? []
}

/** The helper's addresses as a host with these addresses reaches them. */
function helpersFor(lab: Lab, own: readonly string[], nat64: boolean): SocketAddress[] {
  const has = (family: 4 | 6): boolean => own.some((one) => familyOf(one) === family)
  const at = (address: string): SocketAddress => ({ address, port: HELPER_PORT })
  return ([4, 6] as const).flatMap((family) => {
    const address = lab.address(HELPER, family)
    if (has(family)) return [at(address)]
    return family === 4 && nat64 ? [at(synthesize(address))] : []
  })
}

/** By which public hosts know a place. */
function publicAddresses(lab: Lab, { host, routers, isTranslated }: Place): string[] {
  const outermost = isTranslated ? routers.at(-1) : undefined
  const own = addressesOf(lab, host).filter((one) => familyOf(one) === 6 || !isTranslated)
  const outer = outermost === undefined ? [] : addressesOf(lab, outermost)
  return [...outer.filter((one) => familyOf(one) === 4), ...own]
}
