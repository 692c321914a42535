import { formatAddress } from '../../core/index.ts'
import type { RelayCounters, TurnService } from '../../turn/index.ts'

/** What a relay carries at one moment, of one process or of all: plain data, for the way between processes. */
export interface RelaySnapshot {
  /** Seconds. */
  readonly uptime: number
  readonly draining: boolean
  readonly udp: readonly string[]
  readonly streams: readonly string[]
  readonly counters: Omit<RelayCounters, 'errors'>
  /** Error responses: code and how many. */
  readonly errors: readonly (readonly [code: number, count: number])[]
  /** The ones that relay most first; at most 100. */
  readonly allocations: readonly AllocationStatus[]
  readonly allocationCount: number
  /** The processes that run; none where this one is the relay. */
  readonly workers: readonly WorkerStatus[]
  /** Of workers that died. */
  readonly restarts: number
}

export interface AllocationStatus {
  readonly id: number
  /** Number of the process that has it, where there are several. */
  readonly worker?: number
  readonly user: string
  readonly client: string
  readonly relayed: readonly string[]
  readonly permissions: number
  readonly channels: number
  readonly bytes: number
}

/** One of several processes. */
export interface WorkerStatus {
  readonly number: number
  readonly pid: number
  readonly allocations: number
  readonly packets: number
}

/** @param worker the number of this process, where there are several. */
export function snapshotOf(service: TurnService, worker?: number): RelaySnapshot {
  const { relay } = service.host
  const { errors, ...counters } = relay.counters
  const allocations = [...relay.allocations.values()].map((allocation) => ({
    id: allocation.id,
    ...(worker !== undefined && { worker }),
    user: allocation.username,
    client: formatAddress(allocation.link.remote),
    relayed: allocation.sockets.map(({ address }) => formatAddress(address)),
    permissions: allocation.permissionCount,
    channels: allocation.channelCount,
    bytes: allocation.bytesToPeers + allocation.bytesFromPeers,
  }))
  const packets = counters.packetsToPeers + counters.packetsFromPeers
  return {
    uptime: service.uptime,
    draining: relay.draining !== undefined,
    udp: service.udpAddresses.map(formatAddress),
    streams: service.streamAddresses.map(formatAddress),
    counters: { ...counters },
    errors: [...errors],
    allocations: busiest(allocations),
    allocationCount: relay.allocations.size,
    workers:
      worker === undefined
        ? []
        : [{ number: worker, pid: process.pid, allocations: relay.allocations.size, packets }],
    restarts: 0,
  }
}

/**
 * Of all processes together.
 *
 * @param past what those counted that have died: counters never go back.
 */
export function mergeSnapshots(
  snapshots: readonly RelaySnapshot[],
  past: readonly RelaySnapshot[],
  { uptime, restarts }: { readonly uptime: number; readonly restarts: number },
): RelaySnapshot {
  const [first] = snapshots
  const all = [...snapshots, ...past]
  const errors = new Map<number, number>()
  for (const one of all) {
    for (const [code, count] of one.errors) errors.set(code, (errors.get(code) ?? 0) + count)
  }
  return {
    uptime,
    draining: snapshots.some(({ draining }) => draining),
    udp: first?.udp ?? [],
    streams: first?.streams ?? [],
    counters: sumOf(all.map(({ counters }) => counters)),
    errors: [...errors],
    allocations: busiest(snapshots.flatMap(({ allocations }) => allocations)),
    allocationCount: snapshots.reduce((sum, { allocationCount }) => sum + allocationCount, 0),
    workers: snapshots.flatMap(({ workers }) => workers),
    restarts,
  }
}

function sumOf(all: readonly RelaySnapshot['counters'][]): RelaySnapshot['counters'] {
  const sum = (key: keyof RelaySnapshot['counters']): number =>
    all.reduce((total, counters) => total + counters[key], 0)
  return {
    allocationsMade: sum('allocationsMade'),
    requests: sum('requests'),
    limited: sum('limited'),
    packetsToPeers: sum('packetsToPeers'),
    packetsFromPeers: sum('packetsFromPeers'),
    bytesToPeers: sum('bytesToPeers'),
    bytesFromPeers: sum('bytesFromPeers'),
    droppedFromClients: sum('droppedFromClients'),
    droppedFromPeers: sum('droppedFromPeers'),
    droppedByBandwidth: sum('droppedByBandwidth'),
    icmpToClients: sum('icmpToClients'),
    droppedIcmp: sum('droppedIcmp'),
    deniedPeers: sum('deniedPeers'),
  }
}

function busiest(allocations: AllocationStatus[]): AllocationStatus[] {
  return allocations.sort((a, b) => b.bytes - a.bytes).slice(0, 100)
}
