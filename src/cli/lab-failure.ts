import type { Command } from 'commander'
import { UsageError } from '../core/errors.ts'
import { chooseFailures, failureScenarios, playFailure, slowSteps, type FailureResult } from '../lab/index.ts'
import type { MatrixShell } from './lab-matrix.ts'
import { formatBytes } from './output.ts'

const MiB = 1_048_576

/** `natwork lab failure`: what breaks in the middle of a transfer between two nodes. */
export function registerLabFailure(
  lab: Command,
  { output, signal }: Pick<MatrixShell, 'output' | 'signal'>,
): Command {
  return lab
    .command('failure')
    .argument('[names...]', 'default: every one')
    .option('--mib <n>', 'what is sent at least', '64')
    .description('break things in the middle of a transfer between two nodes, and see what becomes of it')
    .addHelpText(
      'after',
      `\n${failureScenarios.map(({ name, summary }) => `  ${name.padEnd(20)}${summary}`).join('\n')}`,
    )
    .action(async (names: string[], { mib }: { mib: string }) => {
      if (!/^[1-9]\d{0,6}$/.test(mib)) {
        throw new UsageError('ERR_NATWORK_ARGUMENT', `--mib: "${mib}" is no number of MiB: write 1 or more`)
      }
      let wrong = 0
      for (const scenario of chooseFailures(names)) {
        const result = await playFailure(scenario, { bytes: Number(mib) * MiB, signal })
        if (!isRight(result)) wrong += 1
        output.result(result, () => describe(result))
      }
      if (wrong > 0) process.exitCode = 1
    })
}

function isRight(result: FailureResult): boolean {
  return result.passed && slowSteps(result).length === 0
}

function describe(result: FailureResult): string {
  const { scenario, failure, steps, noise, bytes, ms } = result
  const head = `${isRight(result) ? 'ok   ' : 'WRONG'} ${scenario.padEnd(20)}`
  const told = steps.map(({ event, before, after, stall, allowed }) => {
    const way = before === after ? (after ?? 'no path') : `${before ?? 'no path'} to ${after ?? 'no path'}`
    return `      ${event}: ${way}, nothing for ${stall} ms (${allowed} allowed, ${noise} before)`
  })
  const outcome = failure ?? `${formatBytes(bytes)} in ${(ms / 1_000).toFixed(1)} s, the hash is right`
  return [`${head}${outcome}`, ...told].join('\n')
}
