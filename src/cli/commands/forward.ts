import type { Duplex } from 'node:stream'
import type { Command } from 'commander'
import { unpackError } from '../control/protocol.ts'
import type { ForwardEvent } from '../forwarding.ts'
import { parseGoal, type Goal } from '../goal.ts'
import { parseListenAddress, writeHostPort, type HostPort } from '../names.ts'
import { showProgress } from '../progress.ts'
import { openReach, type Reach } from '../reach.ts'
import { exhaustiveOption, mdnsOption, readSettings, stopped, untilStopped, type Shell } from '../shell.ts'

/** `natwork forward`: a service of another node as a TCP port of this machine. */
export function registerForward(program: Command, shell: Shell): Command {
  return program
    .command('forward')
    .description('make a service of another node a TCP port of this machine')
    .argument(
      '<[bind:]port>',
      'where to listen: a port of 127.0.0.1, or an address and a port; 0 takes a free port',
    )
    .argument('<service>', 'ID/NAME, or a ticket')
    .option(...exhaustiveOption)
    .option(...mdnsOption)
    .addHelpText(
      'after',
      `
Examples:
  natwork forward 8080 TICKET
  natwork forward 127.0.0.1:5432 ID/postgres`,
    )
    .action(async (at: string, text: string, _options: object, command: Command) => {
      const address = parseListenAddress(at)
      const settings = readSettings(shell, command)
      const goal = parseGoal(text, settings.config)
      await untilStopped(async () => {
        const reach = await openReach(settings, shell.signal)
        try {
          // A wrong id, a ticket that is over, a service that is not there: better known now than at the first use.
          hangUp(await reach.open(goal, shell.signal))
          await forward(shell, reach, goal, address)
        } finally {
          await reach.close()
        }
      })
    })
}

async function forward(
  { output, stderr, signal }: Shell,
  reach: Reach,
  goal: Goal,
  at: HostPort,
): Promise<void> {
  const moved = { sent: 0, received: 0 }
  const onEvent = (event: ForwardEvent): void => {
    if (event.event === 'failed') output.error(unpackError(event.error))
    else Object.assign(moved, { sent: event.sent, received: event.received })
  }
  const forwarding = await reach.forward(goal, at, onEvent, signal)
  const { host, port } = forwarding.address
  const url = urlOf(goal.service, forwarding.address)
  output.result({ event: 'listening', host, port, ...(url !== undefined && { url }) }, (style) =>
    [
      `${style.green('●')} ${style.bold(writeHostPort({ host, port }))} is now "${goal.service}" of ${goal.id}`,
      ...(url === undefined ? [] : [`  open ${style.cyan(url)}`]),
      style.dim('  Ctrl-C ends it'),
    ].join('\n'),
  )
  const endProgress = output.json ? (): void => undefined : showProgress(stderr, () => moved)
  try {
    await Promise.race([stopped(signal), forwarding.ended])
  } finally {
    endProgress()
    await forwarding.close().catch(() => undefined)
  }
}

/** Milliseconds that a service has to close a connection that we ended. */
const HANG_UP = 2_000

/** Ends a stream that was never used, so that the service sees a caller who hung up, not one who broke off. */
function hangUp(stream: Duplex): void {
  const timer = setTimeout(() => stream.destroy(), HANG_UP).unref()
  stream.once('close', () => clearTimeout(timer))
  stream.on('error', () => undefined)
  stream.resume().end()
}

/** What to open in a browser, when the name of the service says that it is for one. */
function urlOf(service: string, { host, port }: HostPort): string | undefined {
  if (!/^(?:demo|web|www|https?)(?:-|$)/.test(service)) return undefined
  const reachable = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host
  return `${service.startsWith('https') ? 'https' : 'http'}://${writeHostPort({ host: reachable, port })}/`
}
