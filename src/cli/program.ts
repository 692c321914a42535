import { Command, CommanderError, Option } from 'commander'
import { UsageError } from '../core/index.ts'
import { registerCat } from './commands/cat.ts'
import { registerExpose } from './commands/expose.ts'
import { registerForward } from './commands/forward.ts'
import { registerId } from './commands/id.ts'
import { registerNetcheck } from './commands/netcheck.ts'
import { registerPing } from './commands/ping.ts'
import { registerProxy } from './commands/proxy.ts'
import { registerRelay } from './commands/relay.ts'
import { registerStatus } from './commands/status.ts'
import { registerUnexpose } from './commands/unexpose.ts'
import { registerWhy } from './commands/why.ts'
import { registerUp } from './commands/up.ts'
import { describeExitCodes, exitCodeOf, exitCodes } from './exit-codes.ts'
import { registerLabMatrix } from './lab-matrix.ts'
import { registerLabFailure } from './lab-failure.ts'
import { registerLabScenario } from './lab-scenario.ts'
import { registerLab } from './lab.ts'
import { createOutput } from './output.ts'
import { Interrupted, type Shell } from './shell.ts'
import { version } from './version.ts'

/** The process as the command line needs it. */
export type Process = Pick<NodeJS.Process, 'env' | 'stdin' | 'stdout' | 'stderr' | 'on' | 'off' | 'exit'>

/** Runs one command line and says how it ended: an exit code of {@link exitCodes}. */
export async function run(args: readonly string[], process: Process): Promise<number> {
  // Known before the command line is understood: mistakes in it are JSON too.
  const json = args.includes('--json')
  const output = createOutput(json, process)
  const stop = new AbortController()
  let hangup: (() => void) | undefined
  const onSignal = (signal: NodeJS.Signals): void => {
    if (signal === 'SIGHUP' && hangup !== undefined) {
      hangup()
      return
    }
    // The second time the user means it.
    if (stop.signal.aborted) process.exit(new Interrupted(signal).exitCode)
    stop.abort(new Interrupted(signal))
  }
  for (const signal of signals) process.on(signal, onSignal)
  // `natwork status | head -1`: whoever read us is satisfied.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(exitCodes.ok[0])
    throw error
  })
  try {
    const onHangup = (listener: () => void): void => {
      hangup = listener
    }
    const shell: Shell = { ...pick(process), output, signal: stop.signal, onHangup }
    await createProgram(shell).parseAsync(args, { from: 'user' })
    return exitCodes.ok[0]
  } catch (error) {
    if (error instanceof Interrupted) return error.exitCode
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return exitCodes.ok[0]
      // No command at all: commander has printed the help.
      if (error.code === 'commander.help') return exitCodes.usage[0]
    }
    const known = error instanceof CommanderError ? usageError(error) : error
    output.error(known)
    return exitCodeOf(known)
  } finally {
    for (const signal of signals) process.off(signal, onSignal)
  }
}

/** Every command. */
export function createProgram(shell: Shell): Command {
  const program = new Command('natwork')
    .description(
      'Connects any two machines, whatever NAT or firewall each sits behind, and pipes TCP through, encrypted, by node id.',
    )
    .version(version, '-V, --version', 'print the version')
    .addOption(new Option('--json', 'print JSON, one value a line, for programs'))
    .option('--config <file>', 'read this configuration instead of the one in the XDG config folder')
    .option('--log-level <level>', 'debug, info, warn, error or silent')
    .addHelpText('after', describeExitCodes())
  settle(program, shell)
  for (const register of commands) settle(register(program, shell), shell)
  return program
}

const commands = [
  registerUp,
  registerExpose,
  registerUnexpose,
  registerForward,
  registerCat,
  registerProxy,
  registerPing,
  registerWhy,
  registerNetcheck,
  registerStatus,
  registerRelay,
  registerId,
  (program: Command, shell: Shell): Command => {
    const lab = registerLab(program)
    registerLabMatrix(lab, shell)
    registerLabScenario(lab, shell)
    registerLabFailure(lab, shell)
    return lab
  },
]

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** What commander copies to a sub-command only when it makes it itself. */
function settle(command: Command, { stdout, stderr }: Shell): void {
  command
    .exitOverride()
    .configureHelp({ showGlobalOptions: true, sortSubcommands: false })
    .helpOption('-h, --help', 'print this help')
    .helpCommand(false)
    .configureOutput({
      writeOut: (text) => stdout.write(text),
      writeErr: (text) => stderr.write(text),
      // Printed by run(), as every other error.
      outputError: () => undefined,
    })
}

function usageError(error: CommanderError): UsageError {
  const message = error.message.replace(/^error: /, '').replaceAll('\n', ' ')
  return new UsageError('ERR_NATWORK_USAGE', `${message}; see \`natwork --help\``, { cause: error })
}

const pick = ({
  env,
  stdin,
  stdout,
  stderr,
}: Process): Pick<Process, 'env' | 'stdin' | 'stdout' | 'stderr'> => ({
  env,
  stdin,
  stdout,
  stderr,
})
