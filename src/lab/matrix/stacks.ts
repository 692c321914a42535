import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { ALL_ABILITIES, SIMPLE_PUNCH } from '../../sim/oracle.ts'
import { LabUsageError } from '../errors.ts'
import type { Adapter } from './contract.ts'

/** The stacks that come with natwork, by name. */
export const builtInStacks = {
  reference: {
    description:
      'The plain UDP hole punch of the simulator on real sockets: one helper tells both the other’s address, both send. No relay, nothing clever.',
    abilities: SIMPLE_PUNCH,
  },
  natwork: {
    description:
      'natwork itself: a node as helper (signals, STUN, relay on one UDP port), and two nodes that know it.',
    again: true,
    abilities: [...SIMPLE_PUNCH, 'host-candidates', 'low-ttl', 'prediction', 'birthday'],
  },
  'natwork-exhaustive': {
    description:
      'natwork with the exhaustive search switched on at both nodes, for two NATs with a random port per destination: up to a minute and 200,000 packets. Give it --timeout 90.',
    again: true,
    program: 'natwork',
    args: ['--exhaustive'],
    abilities: [...SIMPLE_PUNCH, 'host-candidates', 'low-ttl', 'prediction', 'birthday', 'exhaustive'],
  },
  hyperdht: { description: 'hyperdht with a private bootstrap of four nodes and no relay.', again: true },
  'node-datachannel': {
    description:
      'ICE as libdatachannel and libjuice do it (node-datachannel), with coturn for STUN and TURN over UDP.',
    again: true,
  },
} satisfies Record<string, BuiltIn>

interface BuiltIn extends Pick<Adapter, 'description' | 'again' | 'abilities'> {
  /** The file under `adapters/`; default: the stack's name. */
  readonly program?: string
  readonly args?: readonly string[]
}

/**
 * A stack that comes with natwork by its name, or an adapter file (JSON: `name`, `description`, `version`, and the
 * commands `helper`, `a`, `b`) by its path.
 *
 * @throws {LabUsageError} `ERR_NATWORK_LAB_ADAPTER`
 */
export async function loadAdapter(nameOrFile: string): Promise<Adapter> {
  if (Object.hasOwn(builtInStacks, nameOrFile)) return builtIn(nameOrFile as keyof typeof builtInStacks)
  if (!nameOrFile.endsWith('.json')) {
    throw invalid(
      `there is no stack "${nameOrFile}": there are ${Object.keys(builtInStacks).join(', ')}, and adapter files (*.json)`,
    )
  }
  return fromFile(resolve(nameOrFile))
}

function builtIn(name: keyof typeof builtInStacks): Adapter {
  // Compiled or from source: the programs are what this file is.
  const file = fileURLToPath(import.meta.url)
  const source = file.endsWith('.ts')
  const { program = name, args = [], ...about }: BuiltIn = builtInStacks[name]
  const path = join(dirname(file), 'adapters', `${program}.${source ? 'ts' : 'js'}`)
  const loader = source ? ['--import', import.meta.resolve('tsx')] : []
  const command = [process.execPath, ...loader, path, ...args]
  return {
    name,
    ...about,
    version: program === 'reference' || program === 'natwork' ? ownVersion() : versionOf(program),
    commands: { helper: command, a: command, b: command },
  }
}

const command = z.array(z.string()).min(1)
const fileSchema = z.strictObject({
  name: z.string().regex(/^[a-z0-9][a-z0-9._-]{0,39}$/, 'must be 1–40 of a–z 0–9 . _ -'),
  description: z.string().min(1).max(500),
  version: z.string().min(1).max(100),
  helper: command,
  a: command,
  b: command,
  again: z.boolean().optional(),
  abilities: z.array(z.enum(ALL_ABILITIES)).optional(),
})

async function fromFile(path: string): Promise<Adapter> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (cause) {
    throw invalid(`cannot read the adapter ${path}`, cause)
  }
  let data: unknown
  try {
    data = JSON.parse(text)
  } catch (cause) {
    throw invalid(`the adapter ${path} is not JSON`, cause)
  }
  const result = fileSchema.safeParse(data)
  if (!result.success) {
    const [issue] = result.error.issues
    throw invalid(`the adapter ${path}: ${issue?.path.join('.') ?? ''} ${issue?.message ?? 'is not valid'}`)
  }
  const { name, description, version, helper, a, b, again, abilities } = result.data
  // Words that begin with ./ or ../ are files beside the adapter's own.
  const located = (words: readonly string[]): string[] =>
    words.map((word) => (/^\.\.?\//.test(word) ? resolve(dirname(path), word) : word))
  return {
    name,
    description,
    version,
    commands: { helper: located(helper), a: located(a), b: located(b) },
    ...(again !== undefined && { again }),
    ...(abilities && { abilities }),
  }
}

/** natwork's. */
export function ownVersion(): string {
  const require = createRequire(import.meta.url)
  return (require('../../../package.json') as { version: string }).version
}

function versionOf(name: string): string {
  const require = createRequire(import.meta.url)
  const places = [import.meta.url, join(process.cwd(), 'package.json')]
  for (const place of places) {
    const folders = createRequire(place).resolve.paths(name) ?? []
    for (const folder of folders) {
      try {
        return (require(join(folder, name, 'package.json')) as { version: string }).version
      } catch {
        continue
      }
    }
  }
  throw invalid(`the stack "${name}" is not installed: npm install ${name}`)
}

function invalid(message: string, cause?: unknown): LabUsageError {
  return new LabUsageError('ERR_NATWORK_LAB_ADAPTER', message, cause === undefined ? undefined : { cause })
}
