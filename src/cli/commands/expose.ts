import type { Command } from 'commander'
import { UsageError } from '../../core/index.ts'
import { ask } from '../control/client.ts'
import { controlPath } from '../folders.ts'
import { parsePeer } from '../goal.ts'
import { parseDuration, readHostPort, type HostPort } from '../names.ts'
import type { TicketTerms } from '../node.ts'
import { readSettings, type Shell } from '../shell.ts'

interface Options {
  readonly allow?: readonly string[]
  readonly ticket?: boolean
  readonly uses?: string
  readonly expires?: string
}

interface Exposed {
  readonly name: string
  readonly target: string
  readonly allow: readonly string[]
  readonly ticket?: string
  readonly expires?: string
  readonly uses?: number
}

/** `natwork expose`: share a TCP service with named nodes, or with whoever gets a ticket. */
export function registerExpose(program: Command, shell: Shell): Command {
  return program
    .command('expose')
    .description('share a TCP service of this machine; stays shared when the node starts again')
    .argument(
      '<name[=host:port]>',
      'a name for the service, and where it is; the name alone for one that is shared',
    )
    .option('--allow <id...>', 'node ids (or names under `peers`) that may use it')
    .option('--ticket', 'print a ticket: whoever has it may use the service')
    .option('--uses <n>', 'how many different nodes may use the ticket (default 1)')
    .option('--expires <time>', 'how long the ticket is good: 30m, 12h, 7d (default 24h)')
    .addHelpText(
      'after',
      `
Nobody else can use it: without --allow and --ticket that is nobody.

Examples:
  natwork expose ssh=127.0.0.1:22 --allow ID
  natwork expose web=127.0.0.1:8080 --ticket --uses 5 --expires 7d
  natwork expose web --ticket`,
    )
    .action(async (text: string, options: Options, command: Command) => {
      const { folders, config } = readSettings(shell, command)
      const { name, target } = parseShare(text)
      const allow = (options.allow ?? []).map((peer) => parsePeer(peer, config).id)
      const ticket = parseTerms(options)
      const answer = await ask(
        controlPath(folders),
        { request: 'expose', name, allow, ...(target && { target }), ...(ticket && { ticket }) },
        shell.signal,
      )
      const exposed = answer as Exposed
      shell.output.result(
        { ...exposed, ...(exposed.ticket !== undefined && { command: forwardLine(exposed.ticket) }) },
        (style) =>
          exposed.ticket === undefined
            ? `${style.green('●')} ${style.bold(exposed.name)} is ${exposed.target}, open to ${exposed.allow.join(', ') || `nobody yet: add --allow ID or --ticket`}`
            : [
                `${style.green('●')} ${style.bold(exposed.name)} is ${exposed.target}`,
                `  The ticket is good for ${describeTerms(exposed)}. On the other machine:`,
                '',
                `  ${style.cyan(forwardLine(exposed.ticket))}`,
              ].join('\n'),
      )
    })
}

/** The line that reaches a service from another machine. */
export function forwardLine(ticket: string): string {
  return `npx natwork forward 8080 ${ticket}`
}

/** @throws {UsageError} `ERR_NATWORK_ARGUMENT` */
export function parseShare(text: string): { name: string; target: HostPort | undefined } {
  const [name = '', ...rest] = text.split('=')
  if (rest.length === 0) return { name, target: undefined }
  const target = readHostPort(rest.join('='))
  if (target !== undefined && target.port > 0) return { name, target }
  throw new UsageError(
    'ERR_NATWORK_ARGUMENT',
    `"${text}" is not NAME=HOST:PORT: write for example web=127.0.0.1:8080`,
  )
}

function parseTerms({ ticket, uses = '1', expires = '24h' }: Options): TicketTerms | undefined {
  const seconds = parseDuration(expires)
  if (!/^[1-9]\d{0,3}$/.test(uses)) {
    throw new UsageError('ERR_NATWORK_ARGUMENT', `--uses: "${uses}" is no number of nodes: write 1 to 1000`)
  }
  return ticket === true ? { uses: Number(uses), seconds } : undefined
}

function describeTerms({ uses = 1, expires = '' }: Exposed): string {
  const until = expires.slice(0, 16).replace('T', ' ')
  return `${uses === 1 ? 'one node' : `${uses} nodes`} until ${until} UTC`
}
