import { lookup } from 'node:dns/promises'
import type { Command } from 'commander'
import { PeerError, UsageError } from '../../core/index.ts'
import { table } from '../output.ts'
import type { Outcome } from '../relay/attacks.ts'
import type { Shell } from '../shell.ts'

/** `natwork relay check`: does a TURN server, ours or another's, stand what others have fallen to? */
export function registerRelayCheck(relay: Command, shell: Shell): void {
  relay
    .command('check')
    .description(
      'try known attacks on a TURN server and print what got through; only on servers that are yours',
    )
    .argument('<server>', 'turn:HOST[:PORT]')
    .requiredOption('--user <name>', 'a username that may allocate')
    .option(
      '--password <password>',
      'its password; better in NATWORK_RELAY_PASSWORD, where no process list shows it',
    )
    .option('--no-tcp', 'there is no TCP port')
    .addHelpText('after', '\nEnds with 5 when something got through.')
    .action(async (uri: string, options: { user: string; password?: string; tcp: boolean }) => {
      const password = options.password ?? shell.env['NATWORK_RELAY_PASSWORD']
      if (password === undefined) {
        throw new UsageError('ERR_NATWORK_ARGUMENT', 'no password: set NATWORK_RELAY_PASSWORD, or --password')
      }
      const server = await resolve(uri)
      const { attacks } = await import('../relay/attacks.ts')
      const target = { server, user: { username: options.user, password }, tcp: options.tcp }
      const results: (Outcome & { attack: string })[] = []
      for (const { name, run } of attacks) {
        shell.signal.throwIfAborted()
        results.push({ attack: name, ...(await run(target)) })
      }
      const open = results.filter(({ verdict }) => verdict === 'through')
      shell.output.result({ server, results }, (style) => {
        const words = { held: 'held', through: 'GOT THROUGH', skipped: 'not tried' }
        return table(style, [
          ['ATTACK', 'RESULT', ''],
          ...results.map(({ attack, verdict, detail }) => [attack, words[verdict], detail]),
        ])
      })
      if (open.length > 0) {
        throw new PeerError(
          'ERR_NATWORK_RELAY_OPEN',
          `${open.length} of ${results.length} attacks got through`,
        )
      }
    })
}

async function resolve(uri: string): Promise<{ address: string; port: number }> {
  const match = /^turn:(?:\[([^\]]+)\]|([^:?]+))(?::(\d{1,5}))?$/.exec(uri)
  const host = match?.[1] ?? match?.[2]
  if (host === undefined) {
    throw new UsageError('ERR_NATWORK_ARGUMENT', `"${uri}" is no TURN server: write turn:192.0.2.1:3478`)
  }
  const { address } = await lookup(host).catch((cause: unknown) => {
    throw new PeerError('ERR_NATWORK_RELAY_CHECK', `${host} has no address`, { cause })
  })
  return { address, port: Number(match?.[3] ?? 3478) }
}
