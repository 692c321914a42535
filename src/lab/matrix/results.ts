import { z } from 'zod'
import { kindNames } from '../../sim/kinds.ts'
import { ALL_ABILITIES } from '../../sim/oracle.ts'

const kind = z.enum(kindNames)
const bytes = z.number()

/** The first line of a results file: what was run. A file is only continued by the same stack and limits. */
const headerSchema = z.object({
  type: z.literal('matrix'),
  /** Of this file's format. */
  format: z.literal(1),
  stack: z.string(),
  description: z.string(),
  stackVersion: z.string(),
  started: z.iso.datetime(),
  payload: bytes,
  timeoutMs: z.number(),
  /** Where the lab's own were changed: milliseconds, and a share. */
  delay: z.number().optional(),
  loss: z.number().optional(),
  /** One line each: natwork, Node.js, the kernel, the machine, the lab's delays. */
  environment: z.record(z.string(), z.string()),
  abilities: z.array(z.enum(ALL_ABILITIES)).optional(),
})

const runSchema = z.object({
  type: z.literal('run'),
  a: kind,
  b: kind,
  /** 1 … runs. */
  run: z.number().int(),
  at: z.iso.datetime(),
  /** What the lab's counters say. */
  verdict: z.enum(['direct', 'relayed', 'failed']),
  /** What the program says. */
  claimed: z.enum(['direct', 'relayed']).optional(),
  /** From A's connect() to the first byte from B. */
  firstByteMs: z.number().optional(),
  /** From A's connect() until data flowed by the path of the verdict: later than the first byte after an upgrade. */
  pathMs: z.number().optional(),
  /** What the whole run took, start of the programs and all. */
  wallMs: z.number(),
  local: z.string().optional(),
  remote: z.string().optional(),
  details: z.json().optional(),
  /** Why it failed. */
  reason: z.string().optional(),
  traffic: z.object({ sentByA: bytes, receivedByB: bytes, helperIn: bytes, helperOut: bytes }),
  /** What the programs printed, by role, cut to {@link MAX_LOG} characters. */
  logs: z.record(z.string(), z.string()),
  /** By router, cut to {@link MAX_LOG} characters. */
  conntrack: z.record(z.string(), z.string()),
  /** pcap files in the folder of the results, by host. */
  captures: z.record(z.string(), z.string()),
})

export type MatrixHeader = z.infer<typeof headerSchema>
export type RunRecord = z.infer<typeof runSchema>

export interface Results {
  readonly header: MatrixHeader
  readonly runs: readonly RunRecord[]
}

/** Characters kept of one program's output and of one conntrack table; the middle goes. */
export const MAX_LOG = 16_384

export function cutMiddle(text: string, max = MAX_LOG): string {
  if (text.length <= max) return text
  const half = Math.floor(max / 2)
  return `${text.slice(0, half)}\n… ${text.length - 2 * half} characters …\n${text.slice(-half)}`
}

/**
 * Reads a results file (JSON lines). A last line that was cut off by a crash is left out, and so is every line that
 * is no run.
 *
 * @returns undefined when the file holds no matrix.
 */
export function parseResults(text: string): Results | undefined {
  const [first = '', ...rest] = text.split('\n')
  const header = headerSchema.safeParse(parseJson(first))
  if (!header.success) return undefined
  const runs = new Map<string, RunRecord>()
  for (const line of rest) {
    const run = runSchema.safeParse(parseJson(line))
    if (run.success) runs.set(`${run.data.a} ${run.data.b} ${run.data.run}`, run.data)
  }
  return { header: header.data, runs: [...runs.values()] }
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line)
  } catch {
    return undefined
  }
}
