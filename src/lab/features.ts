import { isIPv6 } from 'node:net'
import { AGENT_PORT, NAT64_PREFIX, type Kind } from '../sim/kinds.ts'
import type { SocketAddress } from '../core/address.ts'
import type { Lab } from './lab.ts'
import { clientSocket, passes, type View } from './observe.ts'
import type { Observer } from './observer.ts'

/** Two clients in one place of a lab. */
export interface LabView extends View {
  readonly lab: Lab
  readonly observer: Observer
  /** The first client's site. */
  readonly site: string
}

/** What a place can do besides UDP through its NAT. */
export interface Features {
  /** TCP that is no web server's. */
  readonly tcp22: boolean
  readonly tcp80: boolean
  /** A TLS handshake, and something else, on port 443. */
  readonly tls443: boolean
  readonly plain443: boolean
  /** The other client is reached at its own address. */
  readonly neighbour: boolean
  /** A port asked for by NAT-PMP is open to somebody never heard of. */
  readonly portMapping: boolean
  /** The name of an IPv4-only host has an IPv6 address. */
  readonly dns64: boolean
}

const PATIENCE = 1_500
/** The beginning of a TLS ClientHello: a handshake record of version 3.1, and of something else. */
const TLS = Buffer.from('1603010005 0100000100'.replace(' ', ''), 'hex')
const PLAIN = Buffer.from('GET / HTTP/1.0\r\n\r\n')

export async function probeFeatures(
  kind: Kind,
  view: LabView,
  tcpPorts: readonly number[],
): Promise<Features> {
  const tcp = (port: number, bytes: Buffer): Promise<boolean> => {
    if (!tcpPorts.includes(port)) throw new RangeError(`nobody listens on ${port}`)
    return view.observer.tcpEchoes(view.clients[0], { address: targetOf(view), port }, bytes, PATIENCE)
  }
  const [tcp22, tcp80, tls443, plain443, neighbour, portMapping, dns64] = await Promise.all([
    tcp(22, PLAIN),
    tcp(80, PLAIN),
    tcp(443, TLS),
    tcp(443, PLAIN),
    reachesNeighbour(view),
    mapsPorts(kind, view),
    synthesises(view),
  ])
  return { tcp22, tcp80, tls443, plain443, neighbour, portMapping, dns64 }
}

function targetOf(view: LabView): string {
  const own = addressOf(view, 0)
  return isIPv6(own) && !isIPv6(view.from.address) ? `${NAT64_PREFIX}${view.from.address}` : view.from.address
}

function addressOf(view: LabView, client: 0 | 1): string {
  const name = view.clients[client]
  return view.lab.hosts.find((host) => host.name === name)?.addresses[0] ?? ''
}

async function reachesNeighbour(view: LabView): Promise<boolean> {
  const [one, other] = await Promise.all([
    clientSocket(view, view.clients[0], 0),
    clientSocket(view, view.clients[1], 0),
  ])
  const reached = await passes(one, other, other)
  one.close()
  other.close()
  return reached
}

/** NAT-PMP (RFC 6886 §3.3): a UDP mapping for a socket that sends nothing out. */
async function mapsPorts(kind: Kind, view: LabView): Promise<boolean> {
  const own = addressOf(view, 0)
  if (isIPv6(own) || kind.routers.length === 0) return false
  const socket = await clientSocket(view, view.clients[0], 0)
  const gateway: SocketAddress = { address: own.replace(/\d+$/, '1'), port: 5351 }
  const request = Buffer.from([0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x0e, 0x10])
  request.writeUInt16BE(socket.port, 4)
  request.writeUInt16BE(AGENT_PORT + 1, 6)
  socket.send(gateway, request)
  const answer = await socket.receive('\x00\x81', PATIENCE)
  const granted = answer?.bytes.length === 16 && answer.bytes.readUInt16BE(2) === 0
  const stranger = view.from.other[0]
  const to = { address: outerAddress(view), port: granted ? answer.bytes.readUInt16BE(10) : AGENT_PORT + 1 }
  const open = stranger !== undefined && (await passes(stranger, to, socket))
  socket.close()
  return open
}

/** Of the router at the edge of the core. */
function outerAddress(view: LabView): string {
  const routers = view.lab.hosts.filter(
    ({ name, role }) => role === 'router' && name.startsWith(`${view.site}-`),
  )
  return routers.at(0)?.addresses[0] ?? ''
}

/** Asks the site's name server (the router) for the AAAA record of `v4.one.lab` (RFC 6147 §5.1). */
async function synthesises(view: LabView): Promise<boolean> {
  const own = addressOf(view, 0)
  if (!isIPv6(own)) return false
  const socket = await clientSocket(view, view.clients[0], 0)
  const header = Buffer.from('Q1\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00', 'latin1')
  const question = Buffer.from('\x02v4\x03one\x03lab\x00\x00\x1c\x00\x01', 'latin1')
  socket.send({ address: own.replace(/::[0-9a-f]+$/, '::1'), port: 53 }, Buffer.concat([header, question]))
  const answer = await socket.receive('Q1', PATIENCE)
  socket.close()
  const address = answer?.bytes.subarray(-16).toString('hex') ?? ''
  const octets = (view.from.address.includes(':') ? '0.0.0.0' : view.from.address).split('.').map(Number)
  return address === `0064ff9b0000000000000000${Buffer.from(octets).toString('hex')}`
}
