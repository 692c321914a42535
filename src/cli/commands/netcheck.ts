import type { Command } from 'commander'
import { PeerError, UsageError } from '../../core/index.ts'
import { blockedSentence } from '../blocked.ts'
import { readSettings, type Shell } from '../shell.ts'

interface NetcheckOptions {
  readonly port: string
  readonly ipv4?: boolean
  readonly ipv6?: boolean
  readonly lifetime?: string | true
}

/** `natwork netcheck`: what stands between this machine and the internet, and what that means for connecting. */
export function registerNetcheck(program: Command, shell: Shell): Command {
  return program
    .command('netcheck')
    .description('find out the public address and how the NAT here behaves, by asking STUN servers')
    .argument('[servers...]', 'stun:HOST[:PORT]; default: those under `stun` in the configuration')
    .option('--port <n>', 'the UDP port to look at; 0 takes a free one', '0')
    .option('-4, --ipv4', 'look at IPv4 alone')
    .option('-6, --ipv6', 'look at IPv6 alone')
    .option('--lifetime [seconds]', `how long the NAT keeps a silent mapping; takes that long (${LONGEST})`)
    .action(async (given: string[], options: NetcheckOptions, command: Command) => {
      const { output, signal } = shell
      const { config, logger } = readSettings(shell, command)
      const servers = given.length > 0 ? given : config.stun
      if (servers.length === 0) {
        throw new UsageError(
          'ERR_NATWORK_ARGUMENT',
          'no STUN server to ask: write `natwork netcheck stun:HOST:PORT`, or set `stun` in the configuration',
        )
      }
      const lifetime = secondsOf(options.lifetime)
      const { look } = await import('../netcheck/look.ts')
      const { describe, inJson } = await import('../netcheck/print.ts')
      const { findTls } = await import('../../network/index.ts')
      const seen = await look({
        servers,
        port: Number(options.port),
        family: options.ipv4 === true ? 4 : options.ipv6 === true ? 6 : undefined,
        lifetime,
        portMapping: config.portMapping,
        logger,
        signal,
      }).catch((error: unknown) => {
        // The signal's own reason, as everywhere: ended by Ctrl-C.
        signal.throwIfAborted()
        throw error
      })
      const looks = [seen.ipv4, seen.ipv6].flatMap((family) => family?.behaviour.udp ?? [])
      const isBlocked = looks.every(({ value }) => value !== true)
      const places = isBlocked ? await Promise.all(config.helpers.map((one) => findTls(one, signal))) : []
      const tls = places.flatMap((place) => (place === undefined ? [] : [{ tls: place.port, ...place }]))
      output.result({ ...inJson(seen), tls: tls.map(({ host, port }) => ({ host, port })) }, (style) =>
        [describe(seen, style), ...(tls.length > 0 ? [blockedSentence(tls)] : [])].join('\n\n'),
      )
      // Helpers that answer by TLS are enough for connections to everybody.
      if (isBlocked && tls.length === 0) {
        throw new PeerError('ERR_NATWORK_STUN_TIMEOUT', `no STUN server answers: ${looks[0]?.meaning ?? ''}`)
      }
    })
}

const LONGEST = 120

function secondsOf(given: string | true | undefined): number | undefined {
  if (given === undefined || given === true) return given && LONGEST
  const seconds = Number(given)
  if (seconds >= 5 && seconds <= 3_600) return seconds
  throw new UsageError('ERR_NATWORK_ARGUMENT', `--lifetime ${given}: give seconds, 5 to 3600`)
}
