import { familyOf } from '../core/address.ts'
import type { SocketAddress } from '../core/address.ts'
import type { Micros } from '../core/machine.ts'
import { MILLISECOND } from '../core/machine.ts'
import { AGENT_PORT, kinds } from './kinds.ts'
import { synthesize } from './prefix64.ts'
import { PunchHelper } from './reference/helper.ts'
import { PunchPeer } from './reference/peer.ts'
import { SESSION_LENGTH } from './reference/wire.ts'
import type { Scenario, ScenarioResult, Step, Who } from './scenario.ts'
import type { Site } from './site.ts'
import type { Attachment } from './socket.ts'
import { World } from './world.ts'
import type { WorldOptions } from './world.ts'

/** Runs a scenario in a new world. The world is returned too, for its trace and counters. */
export function runScenario(
  scenario: Scenario,
  options: WorldOptions = {},
): { readonly result: ScenarioResult; readonly world: World } {
  const world = new World(options)
  const stage = new Stage(world, scenario)
  const failures = scenario.steps.flatMap((step, i) => {
    const failure = stage.play(step)
    return failure === undefined ? [] : [`step ${i + 1} (${step.do}): ${failure}`]
  })
  return {
    world,
    result: {
      scenario: scenario.name,
      passed: failures.length === 0,
      failures,
      connectedAfter: stage.connectedAfter,
    },
  }
}

const HELPER_PORT = 3478
const HELPER_ADDRESSES = ['192.0.2.1', '2001:db8:ffff::1'] as const

interface Peer {
  readonly machine: PunchPeer
  readonly attachment: Attachment
  introducedAt: Micros | undefined
  connectedAt: Micros | undefined
  received: number
}

class Stage {
  readonly #world: World
  readonly #sites: Readonly<Record<Who, Site>>
  readonly #session: Uint8Array
  readonly #peers = new Map<Who, Peer>()

  constructor(world: World, { kinds: { a, b }, together }: Scenario) {
    this.#world = world
    const helper = world.publicHost('helper', { addresses: HELPER_ADDRESSES })
    helper.bind({ port: HELPER_PORT }).attach(new PunchHelper(helper.rng))
    const first = world.site('a', { kind: a })
    const share = together ?? (a === b && kinds[a].shared !== 'nothing')
    this.#sites = { a: first, b: world.site('b', { kind: b, ...(share && { beside: first }) }) }
    this.#session = new Uint8Array(SESSION_LENGTH)
    world.rng('session').fill(this.#session)
  }

  get connectedAfter(): number | undefined {
    const [a, b] = [this.#peers.get('a'), this.#peers.get('b')]
    if (a?.connectedAt === undefined || b?.connectedAt === undefined) return undefined
    const begin = Math.min(a.introducedAt ?? Infinity, b.introducedAt ?? Infinity)
    return (Math.max(a.connectedAt, b.connectedAt) - begin) / MILLISECOND
  }

  /** What went wrong, if anything did. */
  play(step: Step): string | undefined {
    switch (step.do) {
      case 'start':
        this.#start(step)
        return undefined
      case 'dial': {
        const { machine, attachment } = this.#peer(step.who)
        machine.dial(this.#world.now)
        attachment.wake()
        return undefined
      }
      case 'wait':
        this.#world.runFor(step.ms * MILLISECOND)
        return undefined
      case 'reboot':
        this.#sites[step.who].reboot()
        return undefined
      case 'block':
      case 'unblock':
        this.#block(step.do)
        return undefined
      case 'expect':
        return this.#expect(step.direct, step.within * MILLISECOND)
      case 'send':
        return this.#send(step.who, step.arrives, step.within * MILLISECOND)
    }
  }

  #start({ who, dials, late, openingTtl }: Step & { do: 'start' }): void {
    const site = this.#sites[who]
    const machine = new PunchPeer({
      session: this.#session,
      side: who === 'a' ? 0 : 1,
      helpers: helpersFor(site),
      dials,
      nat64: site.options.kind === 'nat64',
      ...(late !== undefined && { late: late * MILLISECOND }),
      ...(openingTtl !== undefined && { openingTtl }),
    })
    const attachment = site.client.bind({ port: AGENT_PORT }).attach(machine, (event) => {
      if (event.type === 'introduced') peer.introducedAt = this.#world.now
      else if (event.type === 'connected') peer.connectedAt = this.#world.now
      else if (event.type === 'data') peer.received++
    })
    const peer: Peer = {
      machine,
      attachment,
      introducedAt: undefined,
      connectedAt: undefined,
      received: 0,
    }
    this.#peers.set(who, peer)
  }

  #block(what: 'block' | 'unblock'): void {
    for (const a of this.#sites.a.publicAddresses) {
      for (const b of this.#sites.b.publicAddresses) this.#world.internet[what](a, b)
    }
  }

  #expect(direct: boolean, within: Micros): string | undefined {
    const peers = [this.#peer('a'), this.#peer('b')]
    const connected = (): Peer[] => peers.filter((one) => one.connectedAt !== undefined)
    if (direct) {
      return this.#world.run(() => connected().length === 2, within) ? undefined : 'no direct path'
    }
    this.#world.runFor(within)
    return connected().length === 0 ? undefined : 'a direct path where none was expected'
  }

  #send(who: Who, arrives: boolean, within: Micros): string | undefined {
    const from = this.#peer(who)
    const to = this.#peer(who === 'a' ? 'b' : 'a')
    if (from.connectedAt === undefined) return `${who} is not connected`
    const before = to.received
    from.machine.send(Uint8Array.of(before & 255))
    from.attachment.wake()
    const arrived = this.#world.run(() => to.received > before, within)
    if (arrived === arrives) return undefined
    return arrived ? 'the datagram arrived' : 'the datagram did not arrive'
  }

  #peer(who: Who): Peer {
    const peer = this.#peers.get(who)
    if (!peer) throw new Error(`the scenario has not started ${who}`)
    return peer
  }
}

/** The helper's addresses as this site's client reaches them. */
function helpersFor(site: Site): SocketAddress[] {
  const has = (family: 4 | 6): boolean => site.client.addresses.some((one) => familyOf(one) === family)
  return HELPER_ADDRESSES.flatMap((address) => {
    if (has(familyOf(address))) return [{ address, port: HELPER_PORT }]
    if (site.options.kind !== 'nat64') return []
    return [{ address: synthesize(address), port: HELPER_PORT }]
  })
}
