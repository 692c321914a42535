import { networkInterfaces } from 'node:os'
import { familyOf, type SocketAddress } from '../../core/address.ts'
import { MILLISECOND } from '../../core/machine.ts'
import { systemRng } from '../../core/ports.ts'
import { UdpEndpoint } from '../../socket/index.ts'
import { BehaviourDiscovery } from '../behaviour/discovery.ts'
import { judgePorts, type PortSample, type PortVerdict } from '../behaviour/ports.ts'
import type { BehaviourReport, NatTraits } from '../behaviour/report.ts'
import { StunPeerError } from '../errors.ts'
import { StunAgent } from './agent.ts'
import { abortedError } from './exchanges.ts'
import { findServers, type FindServersOptions, type FoundServers } from './servers.ts'

export interface DiscoverBehaviourOptions extends FindServersOptions {
  /** The socket that matters; default: one of the moment, on {@link port}. */
  readonly endpoint?: UdpEndpoint
  /** 0–65535, of a socket of the moment; default 0, any free one. */
  readonly port?: number
  readonly signal?: AbortSignal
}

export interface NatBehaviour extends BehaviourReport {
  /** The socket that was looked at; the address is `0.0.0.0` or `::` where it is bound to all. */
  readonly local: SocketAddress
  readonly ports: PortVerdict
}

/**
 * Finds out how the NAT in front of a UDP socket behaves, by STUN servers; best one with RFC 5780, else two or more.
 * Takes a few round trips, and up to 20 seconds where answers stay out, as filters make them.
 *
 *     const { mapping } = await discoverBehaviour(['stun:stun.example.org'])
 *     mapping.value // 'endpoint-independent'
 *
 * @throws {StunUsageError} `ERR_NATWORK_STUN_URI`; `ERR_NATWORK_STUN_CONFIG` without a server, or for `stuns:`;
 * `ERR_NATWORK_STUN_ABORTED`.
 * @throws {StunSystemError} `ERR_NATWORK_STUN_DNS` when no server has an address.
 * @throws {SystemError} the socket's own codes.
 */
export async function discoverBehaviour(
  servers: readonly string[],
  options: DiscoverBehaviourOptions = {},
): Promise<NatBehaviour> {
  const { signal } = options
  const found = await findServers(servers, options)
  if (signal?.aborted === true) throw abortedError(signal)
  const host = found.servers.some(({ address }) => familyOf(address) === 6) ? '::' : '0.0.0.0'
  const endpoint = options.endpoint ?? (await UdpEndpoint.bind({ host, port: options.port ?? 0 }))
  try {
    const report = await discover(endpoint, found, signal)
    // After the discovery: fresh mappings in between would disturb the numbers.
    const ports = await discoverPorts(endpoint.address.port, host, report, signal)
    return { ...report, local: endpoint.address, ports }
  } finally {
    if (endpoint !== options.endpoint) await endpoint.close()
  }
}

/** The values alone, certain or likely. */
export function natTraits({ mapping, filtering, ports }: NatBehaviour): NatTraits {
  return {
    ...(mapping.value !== undefined && { mapping: mapping.value }),
    ...(filtering.value !== undefined && { filtering: filtering.value }),
    ...(ports.value !== undefined && { ports: ports.value }),
    ...(ports.step !== undefined && { step: ports.step }),
  }
}

function discover(
  endpoint: UdpEndpoint,
  { servers, spare }: FoundServers,
  signal: AbortSignal | undefined,
): Promise<BehaviourReport> {
  return new Promise((done, reject) => {
    const machine = new BehaviourDiscovery(endpoint.now(), {
      rng: systemRng,
      servers: servers.map((server) => endpoint.path(server).remote),
      spare: spare.map((server) => endpoint.path(server).remote),
      local: localAddresses(endpoint.address),
    })
    const attachment = endpoint.attach(machine, (report) => {
      attachment.detach()
      signal?.removeEventListener('abort', onAbort)
      done(report)
    })
    const onAbort = (): void => {
      attachment.detach()
      reject(abortedError(signal))
    }
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}

function localAddresses({ address, port }: SocketAddress): SocketAddress[] {
  if (address !== '0.0.0.0' && address !== '::') return [{ address, port }]
  return Object.values(networkInterfaces())
    .flatMap((entries) => entries ?? [])
    .map((entry) => ({ address: entry.address, port }))
}

/** Fresh sockets, in turn: each one's first mapping, towards as many different endpoints as there are. */
async function discoverPorts(
  port: number,
  host: string,
  { endpoints, observations }: BehaviourReport,
  signal: AbortSignal | undefined,
): Promise<PortVerdict> {
  const samples: PortSample[] = []
  const first = observations.find(({ mapped }) => mapped !== undefined)?.mapped
  if (first !== undefined) samples.push({ local: port, mapped: first.port })
  let silent = 0
  for (let i = 0; i < SAMPLES && silent < MAX_SILENT; i++) {
    const server = endpoints[i % endpoints.length]
    if (server === undefined) break
    const sample = await samplePort(host, server, signal)
    if (sample === undefined) silent++
    else samples.push(sample)
  }
  return judgePorts(samples, silent)
}

/** Undefined: no answer. A NAT with one static rule serves one socket per server. */
async function samplePort(
  host: string,
  server: SocketAddress,
  signal: AbortSignal | undefined,
): Promise<PortSample | undefined> {
  const endpoint = await UdpEndpoint.bind({ host, port: 0 })
  const agent = new StunAgent(endpoint)
  try {
    const { response } = await agent.request(server, { timing, ...(signal && { signal }) })
    const mapped = response.mappedAddress()
    return mapped && { local: endpoint.address.port, mapped: mapped.port }
  } catch (error) {
    if (!(error instanceof StunPeerError)) throw error
    return undefined
  } finally {
    agent.close()
    await endpoint.close()
  }
}

const SAMPLES = 8
/** Not to spend 2 s on every socket that a static rule leaves out. */
const MAX_SILENT = 2
/** Given up after 2 s: these servers have just answered. */
const timing = { rto: 400 * MILLISECOND, rc: 3, rm: 2 }
