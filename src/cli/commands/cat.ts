import { fstatSync } from 'node:fs'
import { finished, type Duplex } from 'node:stream'
import type { Command } from 'commander'
import { parseGoal } from '../goal.ts'
import { showProgress } from '../progress.ts'
import { openReach } from '../reach.ts'
import { exhaustiveOption, mdnsOption, readSettings, type Shell } from '../shell.ts'

/** `natwork cat`: a service as stdin and stdout. */
export function registerCat(program: Command, shell: Shell): Command {
  return program
    .command('cat')
    .description('connect stdin and stdout to a service, for example as ProxyCommand of ssh')
    .argument('<service>', 'ID/NAME, or a ticket')
    .option(...exhaustiveOption)
    .option(...mdnsOption)
    .addHelpText(
      'after',
      `
The end of stdin is passed on, and the answer still read (as \`nc -N\` does).

Examples:
  ssh -o ProxyCommand='natwork cat ID/ssh' me@laptop
  natwork cat ID/backup < archive.tar`,
    )
    .action(async (text: string, _options: object, command: Command) => {
      const settings = readSettings(shell, command)
      const goal = parseGoal(text, settings.config)
      const reach = await openReach(settings, shell.signal)
      try {
        await pipeStandardStreams(await reach.open(goal, shell.signal), shell)
      } finally {
        await reach.close()
      }
    })
}

async function pipeStandardStreams(stream: Duplex, { stdin, stdout, stderr, signal }: Shell): Promise<void> {
  const moved = { sent: 0, received: 0 }
  stdin.on('data', (chunk: Buffer) => (moved.sent += chunk.length))
  stream.on('data', (chunk: Buffer) => (moved.received += chunk.length))
  // In an ssh session stderr is the user's terminal: only a transfer from or to a file is worth a line there.
  const endProgress = isFile(0) || isFile(1) ? showProgress(stderr, () => moved) : (): void => undefined
  try {
    await new Promise<void>((resolve, reject) => {
      const stop = (): void => {
        stream.destroy(signal.reason as Error)
      }
      signal.addEventListener('abort', stop, { once: true })
      finished(stream, (error) => {
        signal.removeEventListener('abort', stop)
        if (error) reject(error)
        else resolve()
      })
      stdin.pipe(stream)
      // stdout is not ours to close: the process does it by ending.
      stream.pipe(stdout, { end: false })
      // A person at a terminal has nothing to say to a service that is gone; a file may still have.
      if (stdin.isTTY) stream.once('end', () => stream.end())
    })
  } finally {
    endProgress()
    // An open stdin would keep the process.
    stdin.destroy()
  }
}

function isFile(descriptor: number): boolean {
  try {
    return fstatSync(descriptor).isFile()
  } catch {
    return false
  }
}
