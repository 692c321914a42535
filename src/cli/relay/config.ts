import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { networkInterfaces } from 'node:os'
import { dirname, resolve } from 'node:path'
import { z } from 'zod'
import { familyOf, parseAddress, SECOND, UsageError, type SocketAddress } from '../../core/index.ts'
import { canonicalIp } from '../../core/ip.ts'
import { parseBlock } from '../../core/special-purpose.ts'
import { StaticUsers } from '../../stun/credentials/server.ts'
import {
  AnyOfUsers,
  KeyedUsers,
  SharedSecretUsers,
  type RelayAddress,
  type TlsFiles,
  type TurnListen,
  type TurnServiceOptions,
} from '../../turn/index.ts'
import { check, readConfigFile, type KnownFields } from '../config.ts'
import { systemError } from '../errors.ts'
import { parseDuration } from '../names.ts'
import { version } from '../version.ts'

/** The settings of `natwork relay`: what docs/relay.md lists. */
export type RelayConfig = z.output<typeof schema>

/**
 * Reads `relay.yaml`.
 *
 * @param workers what was said in place of its `workers`.
 * @throws {UsageError} `ERR_NATWORK_CONFIG`: one line that names the file, the line, the field and what to write.
 */
export function loadRelayConfig(file: string, workers?: string): RelayConfig {
  const read = check(schema, fields, readConfigFile(schema, fields, file, true), (path) => {
    return `${file}: ${path.join('.')}`
  })
  const config = workers === undefined ? read : { ...read, workers: workersIn(workers) }
  if (config.users === undefined && config.sharedSecret === undefined) {
    throw configError(file, 'nobody could use this relay: set `users` or `sharedSecret`')
  }
  if (config.tls === undefined && config.listen.some(({ transport }) => transport === 'tls')) {
    throw configError(file, 'a `tls:` port needs `tls` with `cert` and `key`')
  }
  if (config.workers > 1 && config.tcpRelaying) {
    throw configError(
      file,
      '`tcpRelaying` needs `workers: 1`: both connections of a client have to meet the same process',
    )
  }
  return config
}

/** What the service is made of. Files named in the configuration are read now. */
export function serviceOptions(
  config: RelayConfig,
  file: string,
): Omit<TurnServiceOptions, 'logger'> & { readonly tls?: TlsFiles } {
  const { realm, users = {}, sharedSecret, limits, rateLimit, tls } = config
  const plain: Record<string, string> = {}
  const keyed: [string, { md5?: Buffer; sha256?: Buffer }][] = []
  for (const [name, secret] of Object.entries(users)) {
    if (typeof secret === 'string') plain[name] = secret
    else keyed.push([name, keysIn(secret)])
  }
  const stores = [
    new StaticUsers(realm, plain),
    new KeyedUsers(realm, keyed),
    ...(sharedSecret === undefined
      ? []
      : [new SharedSecretUsers(realm, sharedSecret, () => Date.now() / 1_000)]),
  ]
  const { lifetime, ...counts } = limits
  return {
    users: new AnyOfUsers(realm, stores),
    addresses: config.relay.addresses ?? defaultAddresses(file),
    ports: config.relay.ports,
    listen: config.listen,
    peers: config.peers,
    tcp: config.tcpRelaying,
    mobility: config.mobility,
    oldChannels: config.oldChannels,
    software: `natwork ${version}`,
    nonceLifetime: config.nonceLifetime,
    limits: {
      ...withoutUndefined(counts),
      ...(lifetime !== undefined && { lifetime: lifetime * SECOND }),
    },
    ...(rateLimit !== undefined && { rateLimit }),
    ...(config.maxConnections !== undefined && { maxConnections: config.maxConnections }),
    ...(config.maxConnectionsPerSource !== undefined && {
      maxConnectionsPerSource: config.maxConnectionsPerSource,
    }),
    ...(tls && { tls: { cert: readPem(tls.cert, file), key: readPem(tls.key, file) } }),
  }
}

const count = z.int('write a number above 0').min(1, 'write a number above 0')

const ipSchema = z
  .string()
  .refine((text) => isIP(text) !== 0, 'write an IP address, such as 203.0.113.5')
  .transform(canonicalIp)

const blockSchema = z
  .string()
  .refine((text) => parseBlock(text) !== undefined, 'write a block of addresses, such as 10.20.0.0/16')

const durationSchema = z.union([z.number(), z.string()]).transform((value, context): number => {
  try {
    return typeof value === 'number' ? value : parseDuration(value)
  } catch (error) {
    context.addIssue((error as Error).message)
    return z.NEVER
  }
})

const addressSchema = z.string().transform((text, context): SocketAddress => {
  try {
    const { address, port } = parseAddress(text)
    return { address: canonicalIp(address), port }
  } catch (error) {
    context.addIssue((error as Error).message)
    return z.NEVER
  }
})

const listenSchema = z.string().transform((text, context): TurnListen => {
  const match = /^(udp|tcp|tls):(.+)$/.exec(text)
  try {
    const { address, port } = parseAddress(match?.[2] ?? '')
    return { host: canonicalIp(address), port, transport: match?.[1] as TurnListen['transport'] }
  } catch {
    context.addIssue(
      `"${text}" is no place to listen at: write udp:0.0.0.0:3478, tcp:[::]:3478 or tls:0.0.0.0:5349`,
    )
    return z.NEVER
  }
})

const portsSchema = z.string().transform((text, context) => {
  const [min = 0, max = 0] = /^(\d{1,5})-(\d{1,5})$/.exec(text)?.slice(1).map(Number) ?? []
  if (min >= 1024 && max >= min && max <= 65_535) return { min, max }
  context.addIssue('write the first and the last port, such as 49152-65535; not below 1024')
  return z.NEVER
})

const relayAddressSchema: z.ZodType<RelayAddress> = z.preprocess(
  (value) => (typeof value === 'string' ? { host: value } : value),
  z
    .strictObject({ host: ipSchema, external: ipSchema.optional() })
    .transform(({ host, external }): RelayAddress => ({ host, ...(external !== undefined && { external }) })),
)

const keySchema = z.string().regex(/^[0-9a-f]{32}$/, 'write the 32 digits that `natwork relay user` prints')
const key256Schema = z
  .string()
  .regex(/^[0-9a-f]{64}$/, 'write the 64 digits that `natwork relay user` prints')

const userSchema = z.union(
  [
    z.string().min(1),
    z
      .strictObject({ md5: keySchema.optional(), sha256: key256Schema.optional() })
      .refine(({ md5, sha256 }) => md5 !== undefined || sha256 !== undefined),
  ],
  'write a password, or the keys that `natwork relay user` prints',
)

const secretAdvice =
  'write at least 16 characters, such as `openssl rand -hex 32` prints; or a list of such secrets'
const secretSchema = z.string(secretAdvice).min(16, secretAdvice)

const limitsSchema = z.strictObject({
  allocations: count.optional(),
  allocationsPerUser: count.optional(),
  allocationsPerSource: count.optional(),
  permissions: count.optional(),
  channels: count.optional(),
  connections: count.optional(),
  bandwidth: count.optional(),
  bandwidthPerUser: count.optional(),
  bandwidthPerSource: count.optional(),
  bandwidthPerAllocation: count.optional(),
  lifetime: durationSchema.optional(),
})

/** Far more than help: each takes a core. */
const MAX_WORKERS = 64
const WORKERS = `write a number of 1–${MAX_WORKERS}: one for each core that the relay may use`

const schema = z.strictObject({
  realm: z.string('write a name for those who log in, such as the host name of this relay').min(1),
  listen: z
    .array(listenSchema)
    .min(1)
    .default([
      { host: '0.0.0.0', port: 3478, transport: 'udp' },
      { host: '0.0.0.0', port: 3478, transport: 'tcp' },
    ]),
  tls: z.strictObject({ cert: z.string().min(1), key: z.string().min(1) }).optional(),
  relay: z
    .strictObject({
      addresses: z.array(relayAddressSchema).min(1).optional(),
      ports: portsSchema.default({ min: 49_152, max: 65_535 }),
    })
    .default({ ports: { min: 49_152, max: 65_535 } }),
  users: z.record(z.string().min(1), userSchema).optional(),
  sharedSecret: z.union([secretSchema, z.array(secretSchema).min(1)], secretAdvice).optional(),
  peers: z
    .strictObject({ allow: z.array(blockSchema).default([]), deny: z.array(blockSchema).default([]) })
    .default({ allow: [], deny: [] }),
  tcpRelaying: z.boolean().default(false),
  mobility: z.boolean().default(true),
  oldChannels: z.boolean().default(false),
  workers: z.int(WORKERS).min(1, WORKERS).max(MAX_WORKERS, WORKERS).default(1),
  limits: limitsSchema.default({}),
  rateLimit: z.union([z.literal(false), z.strictObject({ perSecond: count, burst: count })]).optional(),
  maxConnections: count.optional(),
  maxConnectionsPerSource: count.optional(),
  nonceLifetime: durationSchema.default(600),
  admin: z.union([z.literal(false), addressSchema]).default({ address: '127.0.0.1', port: 9641 }),
  drain: durationSchema.default(60),
  alternate: addressSchema.optional(),
  logLevel: z
    .enum(['debug', 'info', 'warn', 'error', 'silent'], 'write one of debug, info, warn, error, silent')
    .default('info'),
})

/** The settings there are, by the one that they lie in: docs/relay.md lists them. */
export const fields: KnownFields = {
  '': Object.keys(schema.shape),
  tls: ['cert', 'key'],
  relay: ['addresses', 'ports'],
  peers: ['allow', 'deny'],
  limits: Object.keys(limitsSchema.shape),
  rateLimit: ['perSecond', 'burst'],
}

/** One address of each family that is not of this machine alone. */
function defaultAddresses(file: string): RelayAddress[] {
  const all = Object.values(networkInterfaces())
    .flatMap((entries) => entries ?? [])
    .filter(({ internal, address }) => !internal && !/^(fe80:|169\.254\.)/i.test(address))
  const found = [4, 6].flatMap((family) => {
    const one = all.find(({ address }) => familyOf(address) === family)
    return one === undefined ? [] : [{ host: one.address }]
  })
  if (found.length > 0) return found
  throw configError(file, 'this machine has no address to relay at: set `relay.addresses`')
}

function keysIn({ md5, sha256 }: { md5?: string | undefined; sha256?: string | undefined }): {
  md5?: Buffer
  sha256?: Buffer
} {
  return {
    ...(md5 !== undefined && { md5: Buffer.from(md5, 'hex') }),
    ...(sha256 !== undefined && { sha256: Buffer.from(sha256, 'hex') }),
  }
}

function workersIn(text: string): number {
  const workers = /^\d{1,2}$/.test(text) ? Number(text) : 0
  if (workers >= 1 && workers <= MAX_WORKERS) return workers
  throw new UsageError('ERR_NATWORK_ARGUMENT', `--workers ${text}: ${WORKERS}`)
}

/** A path in the file is seen from the file. */
function readPem(path: string, file: string): Buffer {
  try {
    return readFileSync(resolve(dirname(file), path))
  } catch (error) {
    throw systemError('ERR_NATWORK_CONFIG', `${file}: cannot read ${path}`, error)
  }
}

function withoutUndefined<T extends object>(object: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>
  }
}

function configError(file: string, what: string): UsageError {
  return new UsageError('ERR_NATWORK_CONFIG', `${file}: ${what}`)
}
