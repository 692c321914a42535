import { Counter, Gauge, Registry } from 'prom-client'
import type { RelaySnapshot } from './snapshot.ts'

/** A relay's snapshot in Prometheus' words. */
export class RelayMetrics {
  readonly #registry = new Registry()
  readonly #writers: ((snapshot: RelaySnapshot) => void)[] = []

  constructor() {
    this.#gauge('natwork_relay_allocations', 'Allocations that exist', (now) => now.allocationCount)
    this.#gauge('natwork_relay_draining', '1 while no new allocations are taken', (now) =>
      now.draining ? 1 : 0,
    )
    this.#gauge('natwork_relay_workers', 'Worker processes that run; 0 where there are none', (now) => {
      return now.workers.length
    })
    this.#counter(
      'natwork_relay_worker_restarts_total',
      'Workers that died and were started again',
      (now) => [[{}, now.restarts]],
    )
    this.#counter('natwork_relay_allocations_made_total', 'Allocations since the start', ({ counters }) => [
      [{}, counters.allocationsMade],
    ])
    this.#counter('natwork_relay_requests_total', 'Requests', ({ counters }) => [[{}, counters.requests]])
    this.#counter('natwork_relay_packets_total', 'Datagrams relayed', ({ counters }) =>
      both(counters.packetsToPeers, counters.packetsFromPeers),
    )
    this.#counter('natwork_relay_bytes_total', 'Bytes of payload relayed', ({ counters }) =>
      both(counters.bytesToPeers, counters.bytesFromPeers),
    )
    this.#counter('natwork_relay_dropped_total', 'What was not relayed, and why', ({ counters }) => [
      [{ reason: 'from_client_without_permission' }, counters.droppedFromClients],
      [{ reason: 'from_peer_without_permission' }, counters.droppedFromPeers],
      [{ reason: 'bandwidth' }, counters.droppedByBandwidth],
      [{ reason: 'icmp' }, counters.droppedIcmp],
    ])
    this.#counter(
      'natwork_relay_icmp_errors_total',
      'ICMP errors that clients were told of',
      ({ counters }) => [[{}, counters.icmpToClients]],
    )
    this.#counter('natwork_relay_denied_peers_total', 'Peers that the policy refused', ({ counters }) => [
      [{}, counters.deniedPeers],
    ])
    this.#counter(
      'natwork_relay_rate_limited_total',
      'Requests dropped by the rate limit',
      ({ counters }) => [[{}, counters.limited]],
    )
    this.#counter('natwork_relay_errors_total', 'Error responses by code', ({ errors }) =>
      // The one that is never missing says what the label is.
      [[401, 0] as const, ...errors].map(([code, count]) => [{ code: String(code) }, count]),
    )
  }

  get contentType(): string {
    return this.#registry.contentType
  }

  text(snapshot: RelaySnapshot): Promise<string> {
    for (const write of this.#writers) write(snapshot)
    return this.#registry.metrics()
  }

  #gauge(name: string, help: string, value: (snapshot: RelaySnapshot) => number): void {
    const gauge = new Gauge({ name, help, registers: [this.#registry] })
    this.#writers.push((snapshot) => {
      gauge.set(value(snapshot))
    })
  }

  /** The relay counts: what Prometheus gets is what it has counted. */
  #counter(name: string, help: string, values: (snapshot: RelaySnapshot) => Labelled[]): void {
    const labelNames = labels[name] ?? []
    const counter = new Counter({ name, help, labelNames, registers: [this.#registry] })
    this.#writers.push((snapshot) => {
      counter.reset()
      for (const [of, value] of values(snapshot)) counter.inc(of, value)
    })
  }
}

type Labelled = [labels: Record<string, string>, value: number]

const labels: Readonly<Record<string, string[]>> = {
  natwork_relay_packets_total: ['direction'],
  natwork_relay_bytes_total: ['direction'],
  natwork_relay_dropped_total: ['reason'],
  natwork_relay_errors_total: ['code'],
}

const both = (toPeers: number, fromPeers: number): Labelled[] => [
  [{ direction: 'to_peers' }, toPeers],
  [{ direction: 'from_peers' }, fromPeers],
]
