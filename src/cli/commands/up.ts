import type { Command } from 'commander'
import { UsageError } from '../../core/index.ts'
import type { Service } from '../../network/index.ts'
import type { LocalNode } from '../node.ts'
import type { Output, Style } from '../output.ts'
import { blockedSentence } from '../blocked.ts'
import { exhaustiveOption, readSettings, stopped, untilStopped, type Shell } from '../shell.ts'
import { forwardLine, parseShare } from './expose.ts'

/** The ticket for the demo page: enough to show it around, not enough to be forgotten. */
const demoTicket = { uses: 100, seconds: 7 * 86_400 }

interface Options {
  readonly demo?: boolean
  readonly expose?: readonly string[]
}

/** `natwork up`: the node, in the foreground. */
export function registerUp(program: Command, shell: Shell): Command {
  return program
    .command('up')
    .description('run a node in the foreground; the other commands use it')
    .option('--host <address>', 'UDP address to bind (default 0.0.0.0)')
    .option('--port <port>', 'UDP port to bind; 0 takes a free one (default 1315)')
    .option(
      '--expose <name=host:port...>',
      'share these for as long as the node runs, and print a ticket for each',
    )
    .option('--no-port-map', 'do not ask the router to let others in to the port')
    .option(
      '--public-address <address...>',
      'others reach every port of this machine there, though no interface has it: a 1:1 NAT, as in a cloud',
    )
    .option(
      '--mdns',
      'tell this network the id of this node, and find the nodes that do the same, by multicast DNS',
    )
    .option('--helper <id@host:port...>', 'nodes through which others can reach this one behind its NAT')
    .option('--help-others', 'forward signals, and relay, for other nodes: for machines that all can reach')
    .option(...exhaustiveOption)
    .option(
      '--tls-port <port>',
      'with --help-others: TCP port for nodes whose networks block UDP; off for none (default 443, else the number of the UDP port)',
    )
    .option('--demo', 'share a small page when nothing else is shared')
    .addHelpText(
      'after',
      `
Flags win over NATWORK_HOST, NATWORK_PORT, NATWORK_LOG_LEVEL and NATWORK_CONFIG, those over the file.

Examples:
  natwork up
  natwork up --expose web=127.0.0.1:8080
  natwork up --help-others
  natwork up --help-others --public-address 203.0.113.5
  natwork up --helper ID@203.0.113.5:1315`,
    )
    .action(async (options: Options, command: Command) => {
      const settings = readSettings(shell, command)
      const services = (options.expose ?? []).map(parseExposed)
      const { output, signal } = shell
      await untilStopped(async () => {
        const { LocalNode } = await import('../node.ts')
        const { node, stop } = await LocalNode.start(
          settings,
          { demo: options.demo === true, services },
          signal,
        )
        try {
          await describe(node, services, output)
          tellEvents(node, output)
          await stopped(signal)
        } finally {
          await stop()
        }
        output.note({ event: 'down' }, (style) => style.dim('stopped'))
      })
    })
}

function parseExposed(text: string): Service {
  const { name, target } = parseShare(text)
  if (target !== undefined) return { name, ...target }
  throw new UsageError(
    'ERR_NATWORK_ARGUMENT',
    `--expose: "${text}" is not NAME=HOST:PORT: write for example web=127.0.0.1:8080`,
  )
}

async function describe(node: LocalNode, exposed: readonly Service[], output: Output): Promise<void> {
  const { status } = node
  const isDemo = node.network.services.get('demo') !== undefined && status.services.length === 1
  const names = isDemo ? ['demo'] : exposed.map(({ name }) => name)
  const tickets: { service: string; ticket: string; command: string }[] = []
  for (const service of names) {
    const { text } = await node.createTicket(service, demoTicket)
    tickets.push({ service, ticket: text, command: forwardLine(text) })
  }
  const { id, pid, listens, tls, addresses, helpers, udpBlocked, services } = status
  output.result(
    { event: 'up', id, pid, listens, tls, addresses, helpers, udpBlocked, services, tickets },
    (style) =>
      [
        `${style.green('●')} ${style.bold('natwork is up')}`,
        '',
        `  id         ${id}`,
        `  listens    UDP ${listens}${tls === undefined ? '' : `, TLS on TCP ${tls}`}`,
        `  addresses  ${addresses.join(', ') || 'none that others can use'}`,
        ...(helpers.length > 0
          ? [`  helpers    ${helpers.map(({ id, address }) => `${id}@${address}`).join(', ')}`]
          : []),
        ...(udpBlocked ? [`  network    ${blockedSentence(helpers)}`] : []),
        ...describeServices(status.services, names, style),
        '',
        ...tickets.flatMap(({ service, command }) => [
          `  ${service}, from another machine or a second terminal (for 7 days and 100 nodes):`,
          '',
          `  ${style.cyan(command)}`,
          '',
        ]),
        style.dim('Ctrl-C ends it.'),
      ].join('\n'),
  )
}

function describeServices(
  services: LocalNode['status']['services'],
  withTicket: readonly string[],
  style: Style,
): string[] {
  if (services.length === 0)
    return [`  shares     nothing; ${style.cyan('natwork expose NAME=HOST:PORT --ticket')} does`]
  return services.map(({ name, target, allow }, index) => {
    const who = [...allow, ...(withTicket.includes(name) || allow.length === 0 ? ['who has a ticket'] : [])]
    return `  ${index === 0 ? 'shares   ' : '         '}  ${style.bold(name)} (${target}) with ${who.join(', ')}`
  })
}

/** For programs: what happens to pipes. People read the log (`--log-level info`). */
function tellEvents({ network }: LocalNode, output: Output): void {
  if (!output.json) return
  const tell = (value: object): void => output.note(value, String)
  network.on('pipe', (pipe) => tell({ event: 'pipe', pipe }))
  network.on('pipeClosed', (pipe, error) =>
    tell({ event: 'pipeClosed', pipe, ...(error && { error: error.message }) }),
  )
  network.on('connection', ({ peer, state, path }) => tell({ event: 'connection', peer, state, path }))
  network.on('helpers', (helpers) => tell({ event: 'helpers', helpers }))
  network.on('nearby', (nodes) => tell({ event: 'nearby', nodes }))
  network.on('refused', ({ peer, service, error }) =>
    tell({ event: 'refused', peer, service, error: error.code }),
  )
}
