import type { SocketAddress } from '../../core/address.ts'
import type { Micros } from '../../core/machine.ts'

/** On what of the remote end a mapping or a filter depends (RFC 4787 §4.1, §5). */
export type Dependence = 'endpoint-independent' | 'address-dependent' | 'address-and-port-dependent'

/**
 * How a NAT chooses the external port of a new mapping (RFC 4787 §4.2): the client's own (`preserving`); one and the
 * same for different sockets (`fixed`: a static rule); the next one (`sequential`); out of a small block of the
 * client's own (`block`, RFC 6888); or any (`random`).
 */
export type PortAllocation = 'preserving' | 'fixed' | 'sequential' | 'block' | 'random'

/** Who sends what a NAT sends back in (RFC 4787 §6): its external address, its internal one; `none`: it is dropped. */
export type Hairpin = 'none' | 'internal-source' | 'external-source'

/** What stands between this socket and the servers: `nat64` only where the socket speaks IPv6 and is seen as IPv4. */
export type Translation = 'none' | 'nat' | 'nat64'

/** One finding, with what it rests on and what follows from it. */
export interface Finding<T> {
  /** Undefined: not found out; `observations` says why. */
  readonly value: T | undefined
  /** False: the observations leave another reading open, and `value` is the one to prepare for. */
  readonly certain: boolean
  /** What was seen, in words. */
  readonly observations: readonly string[]
  /** What it means for connecting, in one sentence. */
  readonly meaning: string
}

/** What one server, or one endpoint of it, said about this socket. */
export interface Observation {
  readonly server: SocketAddress
  /** As the server sees this socket; undefined: no answer. */
  readonly mapped: SocketAddress | undefined
  /** Round trip; undefined too when a retransmission makes it ambiguous. */
  readonly rtt: Micros | undefined
}

/** How the NAT in front of one socket behaves, in RFC 4787's words. */
export interface BehaviourReport {
  /** Does UDP reach the servers and come back? */
  readonly udp: Finding<boolean>
  readonly translation: Finding<Translation>
  /** The address that others may use; undefined where every destination sees another. */
  readonly publicAddress: Finding<SocketAddress>
  readonly mapping: Finding<Dependence>
  readonly filtering: Finding<Dependence>
  readonly hairpin: Finding<Hairpin>
  /** Where the servers that answer can be asked, RFC 5780's other addresses and ports included. */
  readonly endpoints: readonly SocketAddress[]
  /** Every answer and silence, in the order of asking. */
  readonly observations: readonly Observation[]
}

/** What a peer, or an algorithm, wants to know of a NAT, as far as it was found out. */
export interface NatTraits {
  readonly mapping?: Dependence
  readonly filtering?: Dependence
  readonly ports?: PortAllocation
  /** Of `sequential`: how far the ports are apart. */
  readonly step?: number
}

export const mappingMeans: Readonly<Record<Dependence, string>> = {
  'endpoint-independent': 'one address for all: others reach this socket at the address that any server sees',
  'address-dependent':
    'a new address per remote host: direct to peers with easy NATs, who answer to where the packets come from',
  'address-and-port-dependent':
    'a new address per destination: direct to peers with easy NATs, by probing or a relay to others',
}

export const filteringMeans: Readonly<Record<Dependence, string>> = {
  'endpoint-independent': 'open: anybody may send first',
  'address-dependent': 'a peer gets in from any port once this side has sent to its address',
  'address-and-port-dependent': 'a peer gets in once this side has sent to its very address and port',
}

export const hairpinMeans: Readonly<Record<Hairpin, string>> = {
  none: 'two nodes behind this same NAT need their private addresses to meet',
  'internal-source':
    'two nodes behind this NAT meet at the public address, but see private ones as the sender',
  'external-source': 'two nodes behind this NAT meet at the public address',
}

export const translationMeans: Readonly<Record<Translation, string>> = {
  none: 'no NAT: this socket’s own address is public; at most a firewall stands before it',
  nat: 'a NAT stands before this socket: others know it by another address',
  nat64: 'NAT64: IPv4 hosts are reached by IPv6 and see a shared IPv4 address',
}

export const portsMean: Readonly<Record<PortAllocation, string>> = {
  preserving: 'a new mapping has the socket’s own port: easy to foresee',
  fixed: 'one outer port for all sockets: a static rule leads to one of them',
  sequential: 'the next outer port follows from the last one: a peer can foresee it',
  block: 'the next outer port is one of a few thousand: a peer may find it by probing',
  random: 'the next outer port cannot be foreseen: only many sockets or a relay help against a NAT alike',
}

/** A verdict that was not reached. */
export function unknown<T>(why: string): Finding<T> {
  return { value: undefined, certain: false, observations: [why], meaning: 'not known' }
}
