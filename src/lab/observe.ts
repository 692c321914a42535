import { isIPv6 } from 'node:net'
import type { SocketAddress } from '../core/address.ts'
import { AGENT_PORT, PORT_BLOCK, type Behaviour, type Hairpin } from '../sim/kinds.ts'
import { synthesize } from '../sim/prefix64.ts'
import type { Datagram, ProbeSocket } from './observer.ts'

/** Hosts to open sockets in, and their time: a lab, or the simulator's world. */
export interface Scene {
  addresses(host: string): readonly string[]
  udp(host: string, address: string, port?: number): Promise<ProbeSocket>
  /** Milliseconds. */
  wait(ms: number): Promise<void>
}

/** Two clients in one place, and where to look at them from. */
export interface View {
  readonly scene: Scene
  /** Two hosts that share the outermost NAT. */
  readonly clients: readonly [string, string]
  readonly from: Outside
}

/** What a place looks like from outside, in RFC 4787's words. */
export interface Observed extends Omit<Behaviour, 'lifetime' | 'ports'> {
  readonly ports: Behaviour['ports'] | 'unclear'
  /** The mapping of the second client, which wanted the port that the first one has. */
  readonly mappingOnClash: Behaviour['mapping']
}

/** Sockets on public hosts: one host with two ports, another with one. Replies and probes go out of them. */
export interface Outside {
  readonly address: string
  readonly otherAddress: string
  /** By port on `address`. */
  readonly main: readonly ProbeSocket[]
  /** By port on `otherAddress`. */
  readonly other: readonly ProbeSocket[]
}

/** Milliseconds after which what has not come will not: several round trips of the lab's default core. */
const PATIENCE = 1_500
/** How many fresh mappings the port allocation is judged by. */
const MAPPINGS = 8
/** The outer sockets before this one have other uses. */
const FIRST_SPARE = 3

export async function openOutside(
  scene: Scene,
  hosts: readonly [string, string],
  family: 4 | 6,
): Promise<Outside> {
  const [address, otherAddress] = [addressOf(scene, hosts[0], family), addressOf(scene, hosts[1], family)]
  const open = (host: string, at: string, count: number): Promise<ProbeSocket[]> =>
    Promise.all(Array.from({ length: count }, () => scene.udp(host, at)))
  return {
    address,
    otherAddress,
    main: await open(hosts[0], address, FIRST_SPARE + MAPPINGS),
    other: await open(hosts[1], otherAddress, 3),
  }
}

/** Undefined: no UDP gets out. */
export async function observe(view: View): Promise<Observed | undefined> {
  const { clients } = view
  const first = await clientSocket(view, clients[0], AGENT_PORT)
  // Filtering comes first: it needs outer endpoints that nobody has sent to.
  const filtering = await observeFiltering(view, first)
  if (filtering === undefined) return undefined
  const mapped = await mappings(view, first)
  const clashing = await clientSocket(view, clients[1], AGENT_PORT)
  const clash = await mappings(view, clashing)
  if (mapped === undefined || clash === undefined) return undefined
  first.close()
  clashing.close()
  return {
    mapping: dependence(mapped),
    mappingOnClash: dependence(clash),
    filtering,
    ports: await observePorts(view),
    hairpin: await observeHairpin(view),
  }
}

/**
 * Whether an idle mapping of a client still lets its peer in after each of these many seconds: one socket each, as
 * every packet that comes in may keep a mapping alive.
 */
export async function observeLifetime(view: View, seconds: readonly number[]): Promise<boolean[]> {
  const peer = at(view.from.main, 0)
  return Promise.all(
    seconds.map(async (idle) => {
      const socket = await clientSocket(view, view.clients[0], 0)
      const at = await mappingAt(socket, peer)
      await view.scene.wait(idle * 1_000)
      const alive = at !== undefined && (await passes(peer, at, socket))
      socket.close()
      return alive
    }),
  )
}

/** Where outside sees a client's socket when it sends there. */
export async function mappingAt(socket: ProbeSocket, peer: ProbeSocket): Promise<SocketAddress | undefined> {
  const probe = label()
  socket.send(asSeenBy(socket, peer), probe)
  return (await peer.receive(probe, PATIENCE))?.from
}

/** Whether a datagram from an outer socket to an outer address reaches a client's socket. */
export async function passes(peer: ProbeSocket, to: SocketAddress, socket: ProbeSocket): Promise<boolean> {
  const probe = label()
  peer.send(to, probe)
  return (await socket.receive(probe, PATIENCE)) !== undefined
}

export function clientSocket({ scene }: View, client: string, port: number): Promise<ProbeSocket> {
  return scene.udp(client, scene.addresses(client)[0] ?? '', port)
}

/** An IPv4 peer for an IPv6-only client (RFC 6052 §2.3). */
export function asSeenBy(socket: ProbeSocket, peer: ProbeSocket): SocketAddress {
  const translated = isIPv6(socket.address) && !isIPv6(peer.address)
  return { address: translated ? synthesize(peer.address) : peer.address, port: peer.port }
}

function addressOf(scene: Scene, host: string, family: 4 | 6): string {
  return scene.addresses(host).find((address) => isIPv6(address) === (family === 6)) ?? ''
}

async function observeFiltering(
  view: View,
  socket: ProbeSocket,
): Promise<Behaviour['filtering'] | undefined> {
  const { main, other } = view.from
  const [contacted, samePlace] = [at(main, 0), at(main, 1)]
  const mapped = await mappingAt(socket, contacted)
  if (mapped === undefined || !(await passes(contacted, mapped, socket))) return undefined
  const [elsewhere, otherPort] = await Promise.all([
    passes(at(other, 0), mapped, socket),
    passes(samePlace, mapped, socket),
  ])
  return elsewhere ? 'endpoint-independent' : otherPort ? 'address-dependent' : 'address-and-port-dependent'
}

interface Mappings {
  readonly first: SocketAddress
  readonly otherPort: SocketAddress
  readonly otherAddress: SocketAddress
}

async function mappings(view: View, socket: ProbeSocket): Promise<Mappings | undefined> {
  const { main, other } = view.from
  const [first, otherPort, otherAddress] = await Promise.all([
    mappingAt(socket, at(main, 1)),
    mappingAt(socket, at(main, 2)),
    mappingAt(socket, at(other, 1)),
  ])
  return first && otherPort && otherAddress && { first, otherPort, otherAddress }
}

function dependence({ first, otherPort, otherAddress }: Mappings): Behaviour['mapping'] {
  if (first.port !== otherPort.port) return 'address-and-port-dependent'
  return first.port !== otherAddress.port ? 'address-dependent' : 'endpoint-independent'
}

/** Fresh sockets one after the other, each with a peer of its own: the order is what "sequential" means. */
async function observePorts(view: View): Promise<Observed['ports']> {
  const local: number[] = []
  const given: number[] = []
  for (const peer of view.from.main.slice(FIRST_SPARE)) {
    const socket = await clientSocket(view, view.clients[0], 0)
    local.push(socket.port)
    given.push((await mappingAt(socket, peer))?.port ?? 0)
    socket.close()
  }
  const steps = given.slice(1).map((port, i) => port - at(given, i))
  if (given.includes(0)) return 'unclear'
  if (given.every((port, i) => port === local[i])) return 'preserving'
  if (steps.every((step) => step === 0)) return 'fixed'
  // Other flows of the client may take a port in between.
  if (steps.every((step) => step > 0 && step < MAPPINGS)) return 'sequential'
  // Eight random ports in one block: once in 10¹² runs.
  return new Set(given.map((port) => Math.floor(port / PORT_BLOCK))).size === 1 ? 'block' : 'random'
}

/** Two clients of one NAT send to each other's outer address, more than once: the first opens the filter. */
async function observeHairpin(view: View): Promise<Hairpin> {
  const { from, clients } = view
  const sockets = await Promise.all(clients.map((client) => clientSocket(view, client, 0)))
  const [one, other] = [at(sockets, 0), at(sockets, 1)]
  const outer = await Promise.all([mappingAt(one, at(from.main, 0)), mappingAt(other, at(from.main, 0))])
  const [outerOne, outerOther] = outer
  if (!outerOne || !outerOther) return 'none'
  const probe = label()
  let heard: Datagram | undefined
  for (let round = 0; round < 2 && !heard; round++) {
    other.send(outerOne, `back ${probe}`)
    one.send(outerOther, probe)
    heard = await other.receive(probe, PATIENCE / 2)
  }
  for (const socket of sockets) socket.close()
  if (!heard) return 'none'
  return heard.from.address === outerOne.address ? 'external-source' : 'internal-source'
}

let labels = 0

function label(): string {
  return `probe ${(labels += 1)};`
}

function at<T>(list: readonly T[], index: number): T {
  const found = list[index]
  if (found === undefined) throw new RangeError(`no element ${index}`)
  return found
}
