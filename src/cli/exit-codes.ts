import { PeerError, SystemError, UsageError } from '../core/index.ts'
import { refusalCodes } from '../network/errors.ts'
import { asNatworkError } from './errors.ts'

/**
 * What the shell sees. Stable: scripts may switch on it. `--help` and docs/cli.md print this table.
 * 128 + n is the shell's own way to say "ended by signal n".
 */
export const exitCodes = {
  ok: [0, 'done; also a node, a forward or a proxy that you ended with Ctrl-C or SIGTERM'],
  internal: [1, 'a mistake in natwork itself: please report it'],
  usage: [2, 'the command line or the configuration is wrong'],
  system: [3, 'this machine said no: a port in use, a full disk, a missing permission'],
  node: [4, 'no node runs here, or one runs already'],
  unreachable: [5, 'the peer is not known, cannot be reached, or vanished'],
  refused: [6, 'the peer refused, or is not the one it should be'],
  interrupted: [130, 'cat, ping: ended by Ctrl-C'],
  terminated: [143, 'cat, ping: ended by SIGTERM'],
} as const satisfies Record<string, readonly [code: number, meaning: string]>

export type ExitReason = keyof typeof exitCodes

/** The exit code for what ended a command. */
export function exitCodeOf(error: unknown): number {
  return exitCodes[reasonOf(error)][0]
}

/** The table of `--help`. */
export function describeExitCodes(): string {
  const rows = Object.values(exitCodes).map(([code, meaning]) => `  ${String(code).padEnd(5)}${meaning}`)
  return `\nExit codes:\n${rows.join('\n')}`
}

const nodeCodes: ReadonlySet<string> = new Set(['ERR_NATWORK_NO_NODE', 'ERR_NATWORK_NODE_RUNS'])

// The class RefusedError would tell too, but does not survive the control socket.
const refusals: ReadonlySet<string> = new Set(refusalCodes)

function reasonOf(thrown: unknown): ExitReason {
  const error = asNatworkError(thrown)
  if (error === undefined) return 'internal'
  const { code } = error
  if (nodeCodes.has(code)) return 'node'
  if (error instanceof PeerError) return refusals.has(code) ? 'refused' : 'unreachable'
  if (error instanceof UsageError) return 'usage'
  return error instanceof SystemError ? 'system' : 'internal'
}
