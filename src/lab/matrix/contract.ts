import { z } from 'zod'
import type { Ability } from '../../sim/oracle.ts'

/**
 * The adapter contract (docs/matrix.md): what the matrix knows of a program. An adapter is three commands, a helper on
 * a public host and two peers A and B behind routers; each says on stdout, as one JSON line, when it is ready or done.
 * Every other line is a log line.
 */
export interface Adapter {
  /** 1–40 of `a–z 0–9 . _ -`; names files and columns. */
  readonly name: string
  /** One sentence for the report: what runs, and how. */
  readonly description: string
  /** The version of what is measured, for the report. */
  readonly version: string
  /** Program and arguments, by role. */
  readonly commands: Readonly<Record<Role, readonly string[]>>
  /** A and B can play again in the same process (docs/matrix.md); absent: they are started anew for every run. */
  readonly again?: boolean
  /** What the stack can do, for the comparison with theory; absent: no comparison. */
  readonly abilities?: readonly Ability[]
}

export type Role = 'helper' | 'a' | 'b'
export type PathKind = 'direct' | 'relayed'

/** What a program finds in its environment. */
export interface ProgramEnvironment {
  readonly NATWORK_ROLE: Role
  /** The helper host's addresses of both families, comma-separated; the first of a family is its main one. */
  readonly NATWORK_HELPER: string
  /** UDP port to bind on A and B: the one that DMZ rules and port forwards of the lab's routers lead to. */
  readonly NATWORK_PORT: string
  /** Bytes that A sends to B once connected. */
  readonly NATWORK_PAYLOAD: string
  /** Milliseconds until the run is given up, counted from the start of A. */
  readonly NATWORK_TIMEOUT: string
  /** A and B: the `info` of the helper's ready line, as JSON. */
  readonly NATWORK_HELPER_INFO?: string
  /** A: the `info` of B's ready line, as JSON. */
  readonly NATWORK_PEER_INFO?: string
}

/** A line on the standard input of A and B, if their adapter says `again`. */
export type ProgramOrder =
  /** Let go of everything, keys and ports and all, and say `resting`. */
  | { readonly do: 'rest' }
  /** Begin anew, as if just started. `peerInfo`, for A: what B said with its `ready` this time. */
  | { readonly do: 'play'; readonly peerInfo: Json }

/** A line that says something to the matrix. */
export type ProgramEvent = z.infer<typeof eventSchema>
export type DoneEvent = Extract<ProgramEvent, { event: 'done' }>

export type Json = z.infer<ReturnType<typeof z.json>>

const milliseconds = z.number().min(0).max(3_600_000)
const shortText = z.string().max(1_000)
const eventSchema = z.discriminatedUnion('event', [
  /** Helper and B: start the next program. `info` goes to it. */
  z.object({ event: z.literal('ready'), info: z.json().optional() }),
  /** A, optional, repeated: data now flows this way, so many milliseconds after connect(). */
  z.object({ event: z.literal('path'), path: z.enum(['direct', 'relayed']), ms: milliseconds }),
  /** A: B has confirmed the whole payload. */
  z.object({
    event: z.literal('done'),
    /** From connect() to the first byte that came back from B. */
    ms: milliseconds,
    path: z.enum(['direct', 'relayed']).optional(),
    local: shortText.optional(),
    remote: shortText.optional(),
    /** Anything worth a look in the report. */
    details: z.json().optional(),
  }),
  /** A or B, told to rest: nothing is left of the run. */
  z.object({ event: z.literal('resting') }),
  /** A or B: no connection, and why. */
  z.object({ event: z.literal('failed'), reason: shortText }),
])

/** The event on a line of stdout, or undefined when it is a log line. */
export function parseEvent(line: string): ProgramEvent | undefined {
  if (!line.startsWith('{')) return undefined
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    return undefined
  }
  const result = eventSchema.safeParse(value)
  return result.success ? result.data : undefined
}

/** What A sends once connected: far more than any signalling, so that the counters on the path leave no doubt. */
export const PAYLOAD = 256 * 1024
