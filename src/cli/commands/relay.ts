import { join } from 'node:path'
import { text as readAll } from 'node:stream/consumers'
import type { Command } from 'commander'
import { formatAddress, PeerError, UsageError, type SocketAddress } from '../../core/index.ts'
import { PasswordAlgorithm } from '../../stun/codec/registry.ts'
import { longTermKey } from '../../stun/credentials/keys.ts'
import type { TurnListen } from '../../turn/index.ts'
import type { RelayStatus } from '../relay/admin.ts'
import type { WorkerSettings } from '../relay/messages.ts'
import type { RunningRelay } from '../relay/running.ts'
import type { RelaySnapshot } from '../relay/snapshot.ts'
import { findFolders } from '../folders.ts'
import { createLogger } from '../log.ts'
import { parseDuration } from '../names.ts'
import { formatAge, formatBytes, table, type Style } from '../output.ts'
import { stopped, untilStopped, type Shell } from '../shell.ts'
import { version } from '../version.ts'
import { registerRelayCheck } from './relay-check.ts'

/** `natwork relay`: a TURN server, in the foreground. */
export function registerRelay(program: Command, shell: Shell): Command {
  const relay = program
    .command('relay')
    .description('run a TURN server (RFC 8656) for those that no direct path connects; see docs/relay.md')
    .option('--old-channels', 'take RFC 5766’s channel numbers too (0x5000–0x7FFF), for old clients')
    .option('--workers <n>', 'processes that share the ports, for several cores (`workers`; Linux)')
    .addHelpText(
      'after',
      `
The settings are in relay.yaml in the XDG config folder, or in the file of --config.
SIGHUP reads them again, and allocations stay. SIGTERM waits for allocations to end, at most \`drain\`; a second one
ends at once.

Examples:
  natwork relay --config /etc/natwork/relay.yaml
  natwork relay status
  natwork relay check turn:192.0.2.1:3478 --user alice`,
    )
    .action(async (flags: RelayFlags, command: Command) => {
      await untilStopped(() => run(shell, configFile(shell, command), flags))
    })
  registerStatus(relay, shell)
  registerUser(relay, shell)
  registerCredentials(relay, shell)
  registerRelayCheck(relay, shell)
  return relay
}

async function run(shell: Shell, file: string, flags: RelayFlags): Promise<void> {
  const { loadRelayConfig, serviceOptions } = await import('../relay/config.ts')
  const { startAdmin } = await import('../relay/admin.ts')
  const { runHere } = await import('../relay/running.ts')
  const { RelayWorkers } = await import('../relay/workers.ts')
  const read = (): WorkerSettings => {
    const config = loadRelayConfig(file, flags.workers)
    // What is wrong with the files that it names is known now, too.
    serviceOptions(config, file)
    return { config, file, oldChannels: flags.oldChannels === true }
  }
  const settings = read()
  const { config } = settings
  const logger = createLogger(config.logLevel, shell.stderr, shell.output.json)
  let relay: RunningRelay | undefined
  const look = (): Promise<RelaySnapshot> =>
    relay === undefined ? Promise.reject(new Error('not yet')) : relay.snapshot()
  const admin = config.admin === false ? undefined : await startAdmin(config.admin, look, version)
  try {
    relay =
      config.workers === 1
        ? await runHere(settings, admin?.address, logger)
        : await RelayWorkers.start(settings, config.workers, admin?.address, logger)
    const running = relay
    shell.onHangup(() => {
      // What is wrong with the new settings must not end a relay that runs.
      try {
        running.configure(read())
        logger.info('settings read again', { file })
      } catch (error) {
        logger.error('settings not taken: the old ones hold', { error: (error as Error).message })
      }
    })
    const { udpAddresses, streamAddresses } = relay
    const listens = [...udpAddresses, ...streamAddresses].map(formatAddress)
    shell.output.result(
      {
        event: 'up',
        pid: process.pid,
        listens,
        admin: admin === undefined ? null : formatAddress(admin.address),
        workers: config.workers,
      },
      (style) =>
        [
          `${style.green('●')} ${style.bold('natwork relay is up')}`,
          ...describeListens(config.listen, udpAddresses, streamAddresses),
          ...(config.workers === 1 ? [] : [`  workers    ${config.workers}`]),
          ...(admin === undefined ? [] : [`  metrics    http://${formatAddress(admin.address)}/metrics`]),
          style.dim('Ctrl-C ends it.'),
        ].join('\n'),
    )
    await stopped(shell.signal)
    const { allocationCount: allocations } = await relay.snapshot()
    await relay.drain(config.drain * 1_000, config.alternate, () => {
      logger.info('draining', { allocations, seconds: config.drain })
    })
  } finally {
    await admin?.close()
    await relay?.close()
  }
}

interface RelayFlags {
  readonly oldChannels?: boolean
  readonly workers?: string
}

/** `natwork relay status`. */
function registerStatus(relay: Command, shell: Shell): void {
  relay
    .command('status')
    .description('show the relay that runs here: what it carries, and for whom')
    .action(async (_options: object, command: Command) => {
      const { loadRelayConfig } = await import('../relay/config.ts')
      const { admin } = loadRelayConfig(configFile(shell, command))
      if (admin === false) {
        throw new UsageError('ERR_NATWORK_RELAY_ADMIN', 'the relay has no port for operators: set `admin`')
      }
      const at = formatAddress(admin)
      let status: RelayStatus
      try {
        status = (await (await fetch(`http://${at}/status`, { signal: shell.signal })).json()) as RelayStatus
      } catch (cause) {
        shell.signal.throwIfAborted()
        throw new PeerError('ERR_NATWORK_RELAY_ADMIN', `no relay answers at http://${at}: does it run?`, {
          cause,
        })
      }
      shell.output.result(status, (style) => describe(status, style))
    })
}

function describe(status: RelayStatus, style: Style): string {
  const rows = status.allocations.map((one) => [
    one.worker === undefined ? String(one.id) : `${one.worker}/${one.id}`,
    one.user,
    one.client,
    one.relayed.join(' '),
    String(one.permissions),
    String(one.channels),
    formatBytes(one.bytes),
  ])
  const dot = status.draining ? style.yellow('◐') : style.green('●')
  return [
    `${dot} ${style.bold(`natwork relay ${status.version}`)}${status.draining ? ', draining' : ''}`,
    `  pid ${status.pid}, up ${formatAge(status.uptime)}`,
    `  UDP ${status.udp.join(', ') || 'none'}; TCP/TLS ${status.streams.join(', ') || 'none'}`,
    ...status.workers.map(
      ({ number, pid, allocations, packets }) =>
        `  worker ${number}: pid ${pid}, ${allocations} allocations, ${packets} packets`,
    ),
    `  ${status.allocationCount} allocations, ${status.packets} packets, ${formatBytes(status.bytes)}, ${status.refusals} refusals`,
    '',
    rows.length === 0
      ? 'Nobody has an allocation.'
      : table(style, [['ID', 'USER', 'CLIENT', 'RELAYED', 'PERMISSIONS', 'CHANNELS', 'BYTES'], ...rows]),
  ].join('\n')
}

/** `natwork relay user`: keys in place of a password, for the configuration. */
function registerUser(relay: Command, shell: Shell): void {
  relay
    .command('user')
    .description('read a password from stdin and print the keys for `users` in relay.yaml, in place of it')
    .argument('<name>', 'the username')
    .requiredOption('--realm <realm>', 'the `realm` of the relay')
    .action(async (name: string, { realm }: { realm: string }) => {
      const password = (await readAll(shell.stdin)).replace(/\r?\n$/, '')
      if (password === '') throw new UsageError('ERR_NATWORK_ARGUMENT', 'there was no password on stdin')
      const key = (algorithm: PasswordAlgorithm): string =>
        Buffer.from(longTermKey(algorithm, name, realm, password)).toString('hex')
      const keys = { md5: key(PasswordAlgorithm.Md5), sha256: key(PasswordAlgorithm.Sha256) }
      shell.output.result({ [name]: keys }, () =>
        [`${JSON.stringify(name)}:`, `  md5: ${keys.md5}`, `  sha256: ${keys.sha256}`].join('\n'),
      )
    })
}

/** `natwork relay credentials`: what a web application would give its user. */
function registerCredentials(relay: Command, shell: Shell): void {
  relay
    .command('credentials')
    .description('print credentials that expire, made from `sharedSecret` in relay.yaml')
    .argument('<name>', 'who they are for: quotas are counted by it')
    .option('--lifetime <time>', 'how long they hold: 30m, 12h', '1h')
    .action(async (name: string, { lifetime }: { lifetime: string }, command: Command) => {
      const { loadRelayConfig } = await import('../relay/config.ts')
      const { timeLimitedCredentials } = await import('../../turn/index.ts')
      const file = configFile(shell, command)
      const secret = [loadRelayConfig(file).sharedSecret].flat()[0]
      if (secret === undefined) {
        throw new UsageError('ERR_NATWORK_CONFIG', `${file}: there is no \`sharedSecret\` to make them from`)
      }
      const made = timeLimitedCredentials(secret, Date.now() / 1_000 + parseDuration(lifetime), name)
      shell.output.result(made, () => `username  ${made.username}\npassword  ${made.password}`)
    })
}

/** A line each, as they are bound: addresses of UDP, and those of TCP and TLS, come in the order of `listen`. */
function describeListens(
  listen: readonly TurnListen[],
  udp: readonly SocketAddress[],
  streams: readonly SocketAddress[],
): string[] {
  const left = { udp: [...udp], streams: [...streams] }
  return listen.map(({ transport }, index) => {
    const address = (transport === 'udp' ? left.udp : left.streams).shift()
    const bound = address === undefined ? 'none' : formatAddress(address)
    return `  ${index === 0 ? 'clients' : '       '}    ${transport.toUpperCase()} ${bound}`
  })
}

function configFile(shell: Shell, command: Command): string {
  const { config } = command.optsWithGlobals<{ config?: string }>()
  return config ?? shell.env['NATWORK_RELAY_CONFIG'] ?? join(findFolders(shell.env).config, 'relay.yaml')
}
