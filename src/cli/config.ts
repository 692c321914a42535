import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { LineCounter, parseDocument, type Document } from 'yaml'
import { z } from 'zod'
import { parseAddress, UsageError, type SocketAddress } from '../core/index.ts'
import { parseHelper } from '../network/helper-reference.ts'
import { checkPublicAddresses } from '../network/one-to-one.ts'
import { isNodeId, type NodeId } from '../network/node-id.ts'
import { parseStunUri } from '../stun/uri.ts'
import type { Folders } from './folders.ts'
import { readHostPort, type HostPort } from './names.ts'
import { errnoOf, systemError } from './errors.ts'

/** The settings of a node. Flags win over the environment (`NATWORK_*`), that over the file, that over defaults. */
export type Config = z.output<typeof schema>

/** A TCP service of this machine (or near it) that other nodes may reach. */
export interface SharedService {
  readonly target: HostPort
  /** Node ids, or names under `peers`. Empty: only who holds a ticket. */
  readonly allow: readonly string[]
}

/** What the flags of a command say: the same fields as in the file. */
export type Flags = Partial<
  Pick<
    Config,
    | 'host'
    | 'port'
    | 'logLevel'
    | 'portMapping'
    | 'publicAddresses'
    | 'mdns'
    | 'helpers'
    | 'help'
    | 'exhaustive'
    | 'tlsPort'
  >
> & {
  readonly config?: string
}

/** Settings that the environment can give, and the field each is. */
const variables = {
  NATWORK_HOST: 'host',
  NATWORK_PORT: 'port',
  NATWORK_LOG_LEVEL: 'logLevel',
  NATWORK_UDP_DRIVER: 'udpDriver',
  NATWORK_PORT_MAPPING: 'portMapping',
  NATWORK_MDNS: 'mdns',
} as const

/**
 * Reads `config.yaml` (it need not exist) and lays the environment and the flags over it.
 *
 * @throws {UsageError} `ERR_NATWORK_CONFIG`: one line that names the file, the line, the field and what to write.
 */
export function loadConfig(folders: Folders, env: NodeJS.ProcessEnv, flags: Flags): Config {
  const named = flags.config ?? env['NATWORK_CONFIG']
  const file = named ?? join(folders.config, 'config.yaml')
  const values: Record<string, unknown> = { ...readConfigFile(schema, fields, file, named !== undefined) }
  for (const [variable, field] of Object.entries(variables)) {
    const text = env[variable]
    if (text === undefined || text === '') continue
    values[field] = check(
      schema.shape[field],
      fields,
      field in readers ? readers[field as keyof typeof readers](text) : text,
      () => variable,
    )
  }
  for (const field of ['host', 'port', 'logLevel', 'portMapping', 'tlsPort'] as const) {
    if (flags[field] === undefined) continue
    values[field] = check(schema.shape[field], fields, flags[field], () => `--${kebab(field)}`)
  }
  if (flags.helpers !== undefined) {
    values['helpers'] = check(schema.shape.helpers, fields, flags.helpers, () => '--helper')
  }
  const { publicAddresses } = flags
  if (publicAddresses !== undefined) {
    const { publicAddresses: known } = schema.shape
    values['publicAddresses'] = check(known, fields, publicAddresses, () => '--public-address')
  }
  if (flags.mdns !== undefined) values['mdns'] = flags.mdns
  if (flags.help !== undefined) values['help'] = flags.help
  if (flags.exhaustive !== undefined) {
    values['exhaustive'] = check(schema.shape.exhaustive, fields, flags.exhaustive, () => '--exhaustive')
  }
  return check(schema, fields, values, (path) => `${file}: ${path.join('.')}`)
}

/** Names of services and of peers: they appear in host names (`NAME.PEER.natwork`), so each is a DNS label. */
export const nameSchema = z
  .string()
  .regex(/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/, 'write a short name of a–z, 0–9 and -, such as web')

/** `HOST:PORT`. */
export const targetSchema = z.string().transform((text, context): HostPort => {
  const target = readHostPort(text)
  if (target !== undefined && target.port > 0) return target
  context.addIssue(`"${text}" is not HOST:PORT, write for example 127.0.0.1:8080`)
  return z.NEVER
})

/** The text form of a node id. */
export const nodeIdSchema = z.custom<NodeId>(
  (value) => typeof value === 'string' && isNodeId(value),
  'write the id that `natwork id` prints there (b and 52 letters and digits)',
)

const addressSchema = z.string().transform((text, context): SocketAddress => {
  try {
    return parseAddress(text)
  } catch (error) {
    context.addIssue((error as Error).message)
    return z.NEVER
  }
})

const stunSchema = z.string().transform((text, context) => {
  try {
    if (parseStunUri(text).scheme === 'stun') return text
    context.addIssue('a node speaks STUN on its UDP port: write stun:HOST:PORT')
  } catch (error) {
    context.addIssue((error as Error).message)
  }
  return z.NEVER
})

const helperTextSchema = z.string().transform((text, context) => {
  try {
    parseHelper(text)
    return text
  } catch (error) {
    context.addIssue((error as Error).message)
    return z.NEVER
  }
})

const publicAddressesSchema = z
  .array(z.string(), 'write IP addresses, one a line')
  .transform((given, context) => {
    try {
      return checkPublicAddresses(given)
    } catch (error) {
      context.addIssue((error as Error).message)
      return z.NEVER
    }
  })

const service: z.ZodType<SharedService> = z.preprocess(
  (value) => (typeof value === 'string' ? { target: value } : value),
  z.strictObject({
    target: targetSchema,
    allow: z.array(z.union([nodeIdSchema, nameSchema], 'write node ids or names of peers')).default([]),
  }),
)

const PACKETS = 'write a number from 1 to 1000000'
const PER_SECOND = 'write a number from 1 to 10000'

const schema = z.strictObject({
  /** The UDP address to bind. */
  host: z.string('write an IP address, such as 0.0.0.0').min(1).default('0.0.0.0'),
  /** The UDP port to bind; 0 takes any free one. */
  port: z
    .int('write a number from 0 to 65535')
    .min(0, 'write a number from 0 to 65535')
    .max(65535, 'write a number from 0 to 65535')
    .default(1315),
  logLevel: z
    .enum(['debug', 'info', 'warn', 'error', 'silent'], 'write one of debug, info, warn, error, silent')
    .default('warn'),
  /** How pipes decide how fast to send: `ledbat` gives way to everything else on the line. */
  congestion: z.enum(['bbr', 'cubic', 'ledbat'], 'write one of bbr, cubic, ledbat').default('bbr'),
  /** What moves the datagrams; `auto` takes the native driver where it can be had. */
  udpDriver: z.enum(['auto', 'native', 'dgram'], 'write one of auto, native, dgram').default('auto'),
  /** STUN servers that tell this node its public address. */
  stun: z.array(stunSchema).default([]),
  /** Addresses by which others reach every port of this machine, though no interface of it has them: behind a 1:1 NAT. */
  publicAddresses: publicAddressesSchema.default([]),
  /** Asks the router to let others in to the node's port. */
  portMapping: z.boolean('write true or false').default(true),
  /** Find the nodes of the same network by multicast DNS, and be found; `browse`: find alone. */
  mdns: z.union([z.boolean(), z.literal('browse')], 'write true, browse or false').default(false),
  /** Nodes through which others reach this one: `ID@HOST:PORT`. */
  helpers: z.array(helperTextSchema, 'write ID@HOST:PORT, one a line').default([]),
  /** Forward signals, and relay, for whoever asks. */
  help: z.boolean('write true or false').default(false),
  /** Search every port where both NATs choose at random: what it may cost. */
  exhaustive: z
    .union(
      [
        z.boolean(),
        z.strictObject({
          packets: z.int().min(1, PACKETS).max(1_000_000, PACKETS),
          perSecond: z.int().min(1, PER_SECOND).max(10_000, PER_SECOND),
        }),
      ],
      'write true, or { packets: 200000, perSecond: 4000 }',
    )
    .default(false),
  /** The TCP port where a helper takes TLS from networks that block UDP; `auto`: 443, else the number of `port`; `off`: none. */
  tlsPort: z
    .union(
      [z.enum(['auto', 'off']), z.int().min(1).max(65535)],
      'write a number from 1 to 65535, auto or off',
    )
    .default('auto'),
  services: z.record(nameSchema, service, 'write NAME: HOST:PORT').default({}),
  /** Names for other nodes, and where to find them when nothing else tells. */
  peers: z
    .record(
      nameSchema,
      z.strictObject({ id: nodeIdSchema, addresses: z.array(addressSchema).default([]) }),
      'write NAME: { id: …, addresses: […] }',
    )
    .default({}),
})

/** What may stand at the top (`''`), and below each record: told to who writes something else. */
export type KnownFields = Readonly<Record<string, readonly string[]>>

const fields: KnownFields = {
  '': Object.keys(schema.shape),
  services: ['target', 'allow'],
  peers: ['id', 'addresses'],
}

/**
 * The YAML in a file, checked, as it stands there.
 *
 * @throws {UsageError} `ERR_NATWORK_CONFIG`: one line that names the file, the line, the field and what to write.
 */
export function readConfigFile(
  type: z.ZodType,
  known: KnownFields,
  file: string,
  mustExist: boolean,
): Record<string, unknown> {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    if (!mustExist && errnoOf(error) === 'ENOENT') return {}
    throw systemError('ERR_NATWORK_CONFIG', `cannot read the configuration ${file}`, error)
  }
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines })
  const [mistake] = document.errors
  if (mistake !== undefined) {
    const { line } = lines.linePos(mistake.pos[0])
    const [what = ''] = mistake.message.split('\n')
    throw configError(`${file}:${line}`, what.replace(/ at line \d+, column \d+:?$/, ''))
  }
  const values: unknown = document.toJS()
  if (values === null) return {}
  // Checked here, where the lines are known; parsed once more with the other layers over it.
  check(type, known, values, (path) => `${file}:${lineOf(document, lines, path)}: ${path.join('.')}`)
  return values as Record<string, unknown>
}

/** The line of the field, or of the nearest thing around it that exists. */
function lineOf(document: Document, lines: LineCounter, path: readonly PropertyKey[]): number {
  for (let length = path.length; length > 0; length--) {
    const node: unknown = document.getIn(path.slice(0, length), true)
    const range = typeof node === 'object' && node !== null && 'range' in node ? node.range : undefined
    if (Array.isArray(range) && typeof range[0] === 'number') return lines.linePos(range[0]).line
  }
  return 1
}

export function check<T extends z.ZodType>(
  type: T,
  known: KnownFields,
  value: unknown,
  where: (path: readonly PropertyKey[]) => string,
): z.output<T> {
  const { success, data, error } = type.safeParse(value)
  if (success) return data
  const issue = error.issues[0]
  if (issue?.code === 'unrecognized_keys') {
    const [key = ''] = issue.keys
    const there = known[String(issue.path[0] ?? '')] ?? []
    throw configError(where([...issue.path, key]), `there is no such setting; there are ${there.join(', ')}`)
  }
  // A record's key that is no name: zod keeps what the name lacks one level deeper.
  const message = issue?.code === 'invalid_key' ? issue.issues[0]?.message : issue?.message
  throw configError(where(issue?.path ?? []), message ?? 'not understood')
}

function configError(where: string, what: string): UsageError {
  return new UsageError('ERR_NATWORK_CONFIG', `${where.replace(/: $/, '')}: ${what}`)
}

const numberIn = (text: string): unknown => (/^\d+$/.test(text) ? Number(text) : text)

const booleanIn = (text: string): unknown => (text === 'true' ? true : text === 'false' ? false : text)

/** Of what is no text in the file. */
const readers = { port: numberIn, portMapping: booleanIn, mdns: booleanIn }

const kebab = (name: string): string => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
