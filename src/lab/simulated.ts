import type { SocketAddress } from '../core/address.ts'
import { MILLISECOND, type Micros } from '../core/machine.ts'
import type { Host } from '../sim/host.ts'
import type { Kind } from '../sim/kinds.ts'
import type { SimSocket } from '../sim/socket.ts'
import { World } from '../sim/world.ts'
import { observe, observeLifetime, openOutside, type Observed, type Scene } from './observe.ts'
import type { Datagram, ProbeSocket } from './observer.ts'

/** What the simulator's routers of a kind look like from outside, by the very probes that the lab's get. */
export interface Simulated {
  readonly observed: Observed | undefined
  /** Whether a mapping was still open after each of the idle times. */
  readonly alive: readonly boolean[]
}

/** @param idle seconds; of virtual time: nobody waits for them */
export async function observeSimulated(kind: Kind, idle: readonly number[]): Promise<Simulated> {
  const scene = new SimulatedScene()
  const { world } = scene
  for (const [i, name] of ['one', 'two'].entries()) {
    scene.add(world.publicHost(name, { addresses: [`192.0.2.${10 + i}`, `2001:db8:ffff::${10 + i}`] }))
  }
  const site = world.site('k', { kind: kind.name })
  const neighbour =
    kind.shared === 'carrier'
      ? world.site('kn', { kind: kind.name, beside: site }).client
      : site.addClient('k2')
  const clients = [scene.add(site.client), scene.add(neighbour)] as const
  const from = await openOutside(scene, ['one', 'two'], kind.families.includes(4) ? 4 : 6)
  const view = { scene, clients, from }
  const [observed, alive] = await Promise.all([observe(view), observeLifetime(view, idle)])
  return { observed, alive }
}

/** A world whose time goes on only while everybody who looks at it waits. */
class SimulatedScene implements Scene {
  readonly world = new World()
  readonly #hosts = new Map<string, Host>()
  readonly #waiting = new Set<Waiting>()
  #isPumping = false

  add(host: Host): string {
    this.#hosts.set(host.name, host)
    return host.name
  }

  addresses(name: string): readonly string[] {
    return this.#hosts.get(name)?.addresses ?? []
  }

  udp(name: string, address: string, port = 0): Promise<ProbeSocket> {
    const host = this.#hosts.get(name)
    if (!host) return Promise.reject(new RangeError(`no host ${name}`))
    return Promise.resolve(new SimulatedSocket(host.bind({ address, port }), address, this))
  }

  async wait(ms: number): Promise<void> {
    await this.until(() => false, ms)
  }

  /** Until something is so, at most so many milliseconds of the world. */
  until(isSo: () => boolean, ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.add({ isSo, end: this.world.now + ms * MILLISECOND, resolve })
      if (this.#isPumping) return
      this.#isPumping = true
      setImmediate(this.#pump)
    })
  }

  /** Runs the world to the next moment that somebody waits for; all they do then comes before time goes on. */
  readonly #pump = (): void => {
    const { world } = this
    const end = Math.min(...[...this.#waiting].map((one) => one.end))
    world.run(() => [...this.#waiting].some((one) => one.isSo()), end - world.now)
    for (const one of this.#waiting) {
      if (!one.isSo() && one.end > world.now) continue
      this.#waiting.delete(one)
      one.resolve()
    }
    this.#isPumping = this.#waiting.size > 0
    if (this.#isPumping) setImmediate(this.#pump)
  }
}

interface Waiting {
  readonly isSo: () => boolean
  readonly end: Micros
  readonly resolve: () => void
}

class SimulatedSocket implements ProbeSocket {
  readonly port: number
  readonly address: string
  readonly #socket: SimSocket
  readonly #scene: SimulatedScene
  readonly #unread: Datagram[] = []

  constructor(socket: SimSocket, address: string, scene: SimulatedScene) {
    this.port = socket.port
    this.address = address
    this.#socket = socket
    this.#scene = scene
    socket.onMessage = (data, from) => this.#unread.push({ from, bytes: Buffer.from(data) })
  }

  send(to: SocketAddress, bytes: Buffer | string): void {
    this.#socket.send(Buffer.from(bytes), to)
  }

  async receive(start: string, within: number): Promise<Datagram | undefined> {
    const index = (): number =>
      this.#unread.findIndex(({ bytes }) => bytes.toString('latin1').startsWith(start))
    if (index() < 0) await this.#scene.until(() => index() >= 0, within)
    return index() < 0 ? undefined : this.#unread.splice(index(), 1)[0]
  }

  close(): void {
    this.#socket.close()
  }
}
