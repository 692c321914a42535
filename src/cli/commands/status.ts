import type { Command } from 'commander'
import { ask } from '../control/client.ts'
import { controlPath } from '../folders.ts'
import type { LinkStatus, NodeStatus } from '../node.ts'
import { formatAge, formatBytes, table, type Style } from '../output.ts'
import { blockedSentence } from '../blocked.ts'
import { readSettings, type Shell } from '../shell.ts'

/** `natwork status`: what the node here shares, and who uses it. */
export function registerStatus(program: Command, shell: Shell): Command {
  return program
    .command('status')
    .description('show the node that runs here: addresses, what it shares, pipes')
    .action(async (_options: object, command: Command) => {
      const { folders } = readSettings(shell, command)
      const status = (await ask(controlPath(folders), { request: 'status' }, shell.signal)) as NodeStatus
      shell.output.result(status, (style) => describeStatus(status, style))
    })
}

function describeStatus(status: NodeStatus, style: Style): string {
  const { id, pid, uptime, addresses, services, pipes, helpers, udpBlocked, tls, links, nearby } = status
  const head = [
    `${style.green('●')} ${style.bold(id)}`,
    `  pid ${pid}, up ${formatAge(uptime)}, UDP ${status.listens}${tls === undefined ? '' : `, TLS on TCP ${tls}`}`,
    `  UDP driver ${status.udpDriver}`,
    `  addresses ${addresses.join(', ') || 'none'}`,
    `  helpers ${helpers.map(describeHelper).join(', ') || 'none'}`,
    ...(udpBlocked ? [`  ${style.yellow(blockedSentence(helpers))}`] : []),
  ]
  const shared = services.map(({ name, target, allow }) => [name, target, allow.join(', ') || 'tickets only'])
  const open = pipes.map((pipe) => [
    pipe.direction === 'in' ? 'from' : 'to',
    pipe.peer,
    pipe.service,
    pipe.state,
    formatBytes(pipe.bytesIn),
    formatBytes(pipe.bytesOut),
    formatAge(pipe.age / 1_000),
  ])
  return [
    ...head,
    '',
    shared.length > 0
      ? table(style, [['SERVICE', 'TARGET', 'ALLOWED'], ...shared])
      : 'Nothing is shared: `natwork expose NAME=HOST:PORT --ticket` does.',
    '',
    open.length > 0
      ? table(style, [['', 'PEER', 'SERVICE', 'STATE', 'IN', 'OUT', 'AGE'], ...open])
      : 'No pipe is open.',
    '',
    links.length > 0
      ? table(style, [
          ['NODE', 'PATH', 'AT', 'ROUND TRIP', 'LOSS', 'IN', 'OUT', 'FOR'],
          ...links.map(describeLink),
        ])
      : 'No other node is connected.',
    ...(nearby.length > 0
      ? [
          '',
          table(style, [['NEAR BY', 'AT'], ...nearby.map(({ id, addresses }) => [id, addresses.join(', ')])]),
        ]
      : []),
  ].join('\n')
}

function describeHelper({ id, address, transport, tls }: NodeStatus['helpers'][number]): string {
  return `${id}@${address}${transport === 'tls' ? ` by TLS on port ${tls ?? 'unknown'}` : ''}`
}

function describeLink(link: LinkStatus): string[] {
  return [
    link.peer,
    link.path ?? link.state,
    link.remote ?? '',
    link.rtt === undefined ? '' : `${link.rtt.toFixed(1)} ms`,
    `${(link.loss * 100).toFixed(1)} %`,
    formatBytes(link.bytesIn),
    formatBytes(link.bytesOut),
    link.age === undefined ? '' : formatAge(link.age),
  ]
}
