import type { KindName } from '../../../src/sim/kinds.ts'
import type { MatrixHeader, RunRecord } from '../../../src/lab/matrix/results.ts'
import type { Verdict } from '../../../src/lab/matrix/verdict.ts'

export const header: MatrixHeader = {
  type: 'matrix',
  format: 1,
  stack: 'fake',
  description: 'A stack for tests.',
  stackVersion: '1.2.3',
  started: '2026-01-02T03:04:05.000Z',
  payload: 262_144,
  timeoutMs: 5_000,
  environment: { 'Node.js': 'v20' },
}

export function runOf(
  a: KindName,
  b: KindName,
  run: number,
  verdict: Verdict,
  more: Partial<RunRecord> = {},
): RunRecord {
  return {
    type: 'run',
    a,
    b,
    run,
    at: '2026-01-02T03:04:05.000Z',
    verdict,
    ...(verdict !== 'failed' && { firstByteMs: 100 * run, pathMs: 100 * run }),
    wallMs: 1_000,
    traffic: { sentByA: 0, receivedByB: 0, helperIn: 0, helperOut: 0 },
    logs: {},
    conntrack: {},
    captures: {},
    ...more,
  }
}
