import { z } from 'zod'
import { isKindName, kindNames, kinds, type KindName, type RouterSpec } from '../sim/kinds.ts'
import { LabUsageError } from './errors.ts'

/**
 * What one direction of a way through the emulated core does to packets. Every number is for that direction alone:
 * a round trip between two sites passes four of them.
 */
export interface PathParameters {
  /** Milliseconds, ≥ 0. */
  readonly delay?: number
  /** Milliseconds, ≥ 0: each packet waits up to this much longer. Packets keep their order. */
  readonly jitter?: number
  /** Bits per second; 0 is no limit. */
  readonly rate?: number
  /** Bytes that may wait for the rate; more are dropped. */
  readonly queue?: number
  /** 0–1. */
  readonly loss?: number
  /** Routers on the way, 0–64: TTL goes down by as many, and a packet with less dies there. */
  readonly hops?: number
}

/** A place: clients, and the routers between them and the core. */
export interface Site {
  /** From the clients to the core: names of kinds (each stands for its own chain), or routers of your own making. */
  readonly routers: readonly (KindName | RouterSpec)[]
  /** How many hosts, 1–100, default 1. Site `a` has `a1`, `a2`, … */
  readonly clients?: number
  /** Another site: this one shares that one's outermost router, and its own `routers` end before it. */
  readonly behind?: string
  /** 4, 6 or both; default: what the kind says, and IPv4 for routers of your own making. */
  readonly families?: readonly (4 | 6)[]
  /** Default {@link SITE_PATH}. */
  readonly path?: PathParameters
}

/** An internet as data. */
export interface Topology {
  /** Public hosts, each with an IPv4 and an IPv6 address, or several. Default: one `helper` with one of each. */
  readonly hosts?: Readonly<Record<string, PublicHost>>
  /** The short form of a site is the name of its kind. */
  readonly sites: Readonly<Record<string, Site | KindName>>
  /** Whether the core's routers say ICMP "time exceeded" for packets that die there. Default false: silence. */
  readonly timeExceeded?: boolean
}

export interface PublicHost {
  /** Addresses of each family, 1–8, default 1. */
  readonly addresses?: number
  /** Default {@link HOST_PATH}. */
  readonly path?: PathParameters
}

/** 10 ms each way: 20 ms round trip to public hosts, 40 ms between sites, four hops per site. */
export const SITE_PATH: Required<PathParameters> = {
  delay: 10,
  jitter: 0,
  rate: 0,
  queue: 256 * 1024,
  loss: 0,
  hops: 4,
}
export const HOST_PATH: Required<PathParameters> = { ...SITE_PATH, delay: 0, hops: 1 }

const pathSchema = z.strictObject({
  delay: z.number().min(0).max(60_000).optional(),
  jitter: z.number().min(0).max(60_000).optional(),
  rate: z.number().int().min(0).optional(),
  queue: z.number().int().min(0).optional(),
  loss: z.number().min(0).max(1).optional(),
  hops: z.number().int().min(0).max(64).optional(),
})
const dependence = z.enum(['endpoint-independent', 'address-dependent', 'address-and-port-dependent'])
const portSchema = z.number().int().min(1).max(65535)
const routerSchema = z.strictObject({
  role: z.enum(['home', 'carrier']),
  translation: z.enum(['none', 'nat44', 'nat64']),
  behaviour: z.strictObject({
    mapping: dependence,
    filtering: dependence,
    ports: z.enum(['preserving', 'fixed', 'sequential', 'block', 'random']),
    lifetime: z.number().min(1),
    hairpin: z.enum(['none', 'internal-source', 'external-source']),
    step: z.number().int().min(1).max(1000).optional(),
    portRange: z.tuple([portSchema, portSchema]).optional(),
  }),
  netfilter: z
    .strictObject({
      source: z.enum(['none', 'snat', 'masquerade', 'masquerade-random']),
      forwardedPort: portSchema.optional(),
      input: z.enum(['accept', 'drop']),
      forward: z.enum(['accept', 'established']),
      timeout: z.number().int().min(1).optional(),
      timeoutStream: z.number().int().min(1).optional(),
    })
    .optional(),
  egress: z.enum(['all', 'tcp-80-443', 'tls-443']),
  isolated: z.boolean(),
  portMapping: z.boolean(),
})
const kindSchema = z.string().refine(isKindName)
const siteSchema = z.strictObject({
  routers: z.array(z.union([kindSchema, routerSchema])).max(4),
  clients: z.number().int().min(1).max(100).optional(),
  behind: z.string().optional(),
  families: z.array(z.union([z.literal(4), z.literal(6)])).optional(),
  path: pathSchema.optional(),
})
// Network namespaces, interfaces and the emulator's ports carry these names.
const nameSchema = z
  .string()
  .regex(/^[a-z][a-z0-9]{0,11}$/, 'a name is 1–12 of a–z and 0–9 and begins with a letter')
const topologySchema = z.strictObject({
  hosts: z
    .record(
      nameSchema,
      z.strictObject({ addresses: z.number().int().min(1).max(8).optional(), path: pathSchema.optional() }),
    )
    .optional(),
  sites: z.record(nameSchema, z.union([kindSchema, siteSchema])),
  timeExceeded: z.boolean().optional(),
})

/**
 * Checks data from outside (a YAML file, a JavaScript caller).
 *
 * @throws {LabUsageError} `ERR_NATWORK_LAB_UNKNOWN_KIND`, `ERR_NATWORK_LAB_TOPOLOGY`.
 */
export function parseTopology(data: unknown): Topology {
  for (const kind of kindsNamedIn(data)) checkKind(kind)
  const result = topologySchema.safeParse(data)
  if (!result.success) {
    const [issue] = result.error.issues
    const reason = issue?.code === 'invalid_key' ? issue.issues[0]?.message : issue?.message
    const where = issue?.path.join('.') ?? ''
    throw new LabUsageError('ERR_NATWORK_LAB_TOPOLOGY', `topology: ${where}: ${reason ?? 'not valid'}`)
  }
  return result.data as Topology
}

/** @throws {LabUsageError} `ERR_NATWORK_LAB_UNKNOWN_KIND` */
export function checkKind(kind: string): KindName {
  if (isKindName(kind)) return kind
  throw new LabUsageError(
    'ERR_NATWORK_LAB_UNKNOWN_KIND',
    `there is no router kind "${kind}"; there are: ${kindNames.join(', ')}`,
  )
}

/** A site in its long form, its chain of routers written out, its families decided. */
export interface ResolvedSite {
  readonly routers: readonly RouterSpec[]
  readonly clients: number
  readonly behind: string | undefined
  readonly families: readonly (4 | 6)[]
  readonly path: PathParameters
}

export function resolveSite(site: Site | KindName): ResolvedSite {
  const long: Site = typeof site === 'string' ? { routers: [site] } : site
  const named = long.routers.filter((router) => typeof router === 'string')
  // IPv6-only kinds want no IPv4; of several kinds, what any of them speaks.
  const families = new Set(named.flatMap((kind) => kinds[kind].families))
  return {
    routers: long.routers.flatMap((router) =>
      typeof router === 'string' ? kinds[router].routers : [router],
    ),
    clients: long.clients ?? 1,
    behind: long.behind,
    families: long.families ?? (families.size > 0 ? [...families] : [4]),
    path: long.path ?? {},
  }
}

// A wrong kind deserves the list of right ones, which a union's "invalid input" does not give.
function kindsNamedIn(data: unknown): string[] {
  const sites = isRecord(data) && isRecord(data['sites']) ? Object.values(data['sites']) : []
  return sites.flatMap((site) => {
    if (typeof site === 'string') return [site]
    const routers = isRecord(site) && Array.isArray(site['routers']) ? (site['routers'] as unknown[]) : []
    return routers.filter((router) => typeof router === 'string')
  })
}

function isRecord(data: unknown): data is Record<string, unknown> {
  return typeof data === 'object' && data !== null && !Array.isArray(data)
}
