import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process'
import { readFileSync, readdirSync, statSync } from 'node:fs'
import { LabUsageError } from './errors.ts'
import { withSystemPath } from './keeper.ts'
import { helperProgram } from './native.ts'

/** A lab that some process of this user keeps open. */
export interface RunningLab {
  readonly name: string
  readonly pid: number
}

/** Every lab of this user on this machine, found in the process list: a lab writes no file that could outlive it. */
export function runningLabs(): RunningLab[] {
  return readdirSync('/proc').flatMap((entry) => {
    if (!/^\d+$/.test(entry)) return []
    try {
      if (statSync(`/proc/${entry}`).uid !== process.getuid?.()) return []
      const [program = '', job, name] = readFileSync(`/proc/${entry}/cmdline`, 'utf8').split('\0')
      if (!/\/natwork-lab-[0-9a-f]+-/.test(program) || job !== 'keeper' || name === undefined) return []
      // The keeper is two processes: the one that waits outside, and pid 1 of the lab.
      const inside = /^NSpid:\t\d+\t1$/m.test(readFileSync(`/proc/${entry}/status`, 'utf8'))
      return inside ? [{ name, pid: Number(entry) }] : []
    } catch {
      return [] // it ended meanwhile
    }
  })
}

/**
 * Starts a program in a host of a lab that another process keeps.
 *
 * @throws {LabUsageError} `ERR_NATWORK_LAB_CLOSED` when there is no such lab.
 */
export async function execInRunningLab(
  name: string,
  host: string,
  command: readonly [string, ...string[]],
  stdio: StdioOptions,
): Promise<ChildProcess> {
  const labs = runningLabs()
  const lab = labs.find((each) => each.name === name)
  if (!lab) {
    const others =
      labs.length > 0 ? `running: ${labs.map((each) => each.name).join(', ')}` : 'none is running'
    throw new LabUsageError(
      'ERR_NATWORK_LAB_CLOSED',
      `there is no lab "${name}" (${others}); natwork lab up starts one`,
    )
  }
  return spawn(await helperProgram(), ['exec', String(lab.pid), host, ...command], {
    stdio,
    env: withSystemPath(process.env),
  })
}
