import type { ChildProcessWithoutNullStreams } from 'node:child_process'
import { kinds, type KindName } from '../../sim/kinds.ts'
import { Lab } from '../lab.ts'
import type { Topology } from '../topology.ts'
import type { Role } from './contract.ts'
import type { Traffic } from './verdict.ts'

/** What one cell's runs are played on: a helper host, and the peers A and B each behind its kind of router. */
export interface Stage extends AsyncDisposable {
  /** Every address of the helper host. */
  readonly helperAddresses: readonly string[]
  exec(role: Role, command: readonly string[], env: NodeJS.ProcessEnv): StageProcess
  /** What the hosts' wires have carried so far. */
  traffic(): Promise<Traffic>
  /** Every router's connection tracking table. */
  conntrack(): Promise<Record<string, string>>
  /** Writes what a host sends and gets to a pcap file until stopped. */
  capture(role: Role, file: string): Promise<{ stop(): Promise<void> }>
  /** Routers forget everything: the next run meets them fresh. */
  reset(): Promise<void>
}

export type StageProcess = Pick<ChildProcessWithoutNullStreams, 'stdin' | 'stdout' | 'stderr' | 'kill' | 'on'>

/** Builds the two kinds in a lab of its own. */
export async function labStage(a: KindName, b: KindName, links: Links = {}): Promise<Stage> {
  const lab = await Lab.create(pairTopology(a, b, links))
  const hosts: Record<Role, string> = { helper: 'helper', a: 'a1', b: sharesHome(a, b) ? 'a2' : 'b1' }
  const routers = lab.hosts.filter(({ role }) => role === 'router').map(({ name }) => name)
  const wire = async (role: Role): Promise<WireBytes> => {
    // Read in the host's own namespace: /proc/self is the reader's.
    const { stdout } = await lab.run(hosts[role], 'cat', ['/proc/self/net/dev'])
    return wireBytes(stdout)
  }
  return {
    helperAddresses: lab.hosts.find(({ name }) => name === 'helper')?.addresses ?? [],
    exec: (role, [program = '', ...args], env) => lab.exec(hosts[role], program, args, { env }),
    traffic: async () => {
      const [atHelper, atA, atB] = await Promise.all([wire('helper'), wire('a'), wire('b')])
      return {
        sentByA: atA.sent,
        receivedByB: atB.received,
        helperIn: atHelper.received,
        helperOut: atHelper.sent,
      }
    },
    conntrack: async () =>
      Object.fromEntries(
        await Promise.all(
          routers.map(async (router) => [router, (await lab.conntrack(router)).join('\n')] as const),
        ),
      ),
    capture: (role, file) => lab.capture(hosts[role], file),
    reset: async () => {
      await Promise.all(routers.map((router) => lab.flush(router)))
    },
    [Symbol.asyncDispose]: () => lab.close(),
  }
}

/** The helper's addresses of each family: programs that find out about NATs want several to ask. */
const HELPER_ADDRESSES = 4

/** The ways between the hosts, where they are not the lab's own. */
export interface Links {
  /** Milliseconds, 0–10,000, from a site to the core: a round trip between two sites passes four of them. */
  readonly delay?: number
  /** 0–0.9: the share of packets lost on each way to and from the core, the helper's included. */
  readonly loss?: number
}

/** Two peers of a kind that is about sharing share; all others have a site each. */
export function pairTopology(a: KindName, b: KindName, links: Links = {}): Topology {
  const { delay, loss } = links
  const lossy = loss === undefined ? {} : { path: { loss } }
  const way = delay === undefined ? lossy : { path: { ...lossy.path, delay } }
  const hosts = { helper: { addresses: HELPER_ADDRESSES, ...lossy } }
  if (sharesHome(a, b)) return { hosts, sites: { a: { routers: [a], clients: 2, ...way } } }
  const sharesCarrier = a === b && kinds[a].shared === 'carrier'
  const siteB = sharesCarrier ? { routers: kinds[b].routers.slice(0, -1), behind: 'a' } : { routers: [b] }
  return { hosts, sites: { a: { routers: [a], ...way }, b: { ...siteB, ...way } } }
}

function sharesHome(a: KindName, b: KindName): boolean {
  return a === b && kinds[a].shared === 'router'
}

interface WireBytes {
  readonly received: number
  readonly sent: number
}

/** Sums up what Linux counts per interface (`/proc/net/dev`), loopback aside. */
export function wireBytes(table: string): WireBytes {
  let received = 0
  let sent = 0
  for (const line of table.split('\n')) {
    const [, name, numbers] = /^\s*([^\s:]+):\s*(.*)$/.exec(line) ?? []
    if (name === undefined || numbers === undefined || name === 'lo') continue
    const columns = numbers.trim().split(/\s+/).map(Number)
    received += columns[0] ?? 0
    sent += columns[8] ?? 0
  }
  return { received, sent }
}
