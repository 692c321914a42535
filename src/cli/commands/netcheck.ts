import type { Command } from 'commander'
import { familyOf, formatAddress, PeerError, UsageError, type SocketAddress } from '../../core/index.ts'
import { table, type Style } from '../output.ts'
import { readSettings, type Shell } from '../shell.ts'
import type { GatewayReport } from '../../portmap/index.ts'
import type { Finding, NatBehaviour } from '../../stun/index.ts'

/** `natwork netcheck`: what stands between this machine and the internet, and what that means for connecting. */
export function registerNetcheck(program: Command, shell: Shell): Command {
  return program
    .command('netcheck')
    .description('find out the public address and how the NAT here behaves, by asking STUN servers')
    .argument('[servers...]', 'stun:HOST[:PORT]; default: those under `stun` in the configuration')
    .option('--port <n>', 'the UDP port to look at; 0 takes a free one', '0')
    .option('-6, --ipv6', 'look at IPv6 instead of IPv4')
    .action(async (given: string[], options: { port: string; ipv6?: boolean }, command: Command) => {
      const { output, signal } = shell
      const { config, logger } = readSettings(shell, command)
      const servers = given.length > 0 ? given : config.stun
      if (servers.length === 0) {
        throw new UsageError(
          'ERR_NATWORK_ARGUMENT',
          'no STUN server to ask: write `natwork netcheck stun:HOST:PORT`, or set `stun` in the configuration',
        )
      }
      const family = options.ipv6 === true ? 6 : 4
      const { discoverBehaviour } = await import('../../stun/index.ts')
      const { discoverGateways } = await import('../../portmap/index.ts')
      const ended = new AbortController()
      const either = AbortSignal.any([signal, ended.signal])
      const asked = config.portMapping ? discoverGateways({ signal: either, logger }) : Promise.resolve([])
      const [seen, routers] = await Promise.all([
        discoverBehaviour(servers, { port: Number(options.port), family, signal }),
        asked.then((all) => all.filter(({ own }) => familyOf(own) === family)),
      ]).catch((error: unknown) => {
        ended.abort()
        // The signal's own reason, as everywhere: ended by Ctrl-C.
        signal.throwIfAborted()
        throw error
      })
      const mapping: PortMappingCheck = { isAsked: config.portMapping, routers }
      output.result(inJson(seen, mapping), (style) => describe(seen, mapping, style))
      if (seen.udp.value !== true) {
        throw new PeerError('ERR_NATWORK_STUN_TIMEOUT', `no STUN server answers: ${seen.udp.meaning}`)
      }
    })
}

interface PortMappingCheck {
  /** False: the configuration says that routers are none of our business. */
  readonly isAsked: boolean
  readonly routers: readonly GatewayReport[]
}

function inJson(seen: NatBehaviour, { isAsked, routers }: PortMappingCheck): object {
  const { udp, translation, publicAddress, mapping, filtering, hairpin, ports } = seen
  const finding = <T>(one: Finding<T>): object => ({ ...one, value: one.value ?? null })
  return {
    local: formatAddress(seen.local),
    udp: finding(udp),
    publicAddress: finding({ ...publicAddress, value: addressOf(publicAddress) }),
    translation: finding(translation),
    mapping: finding(mapping),
    filtering: finding(filtering),
    ports: finding(ports),
    hairpin: finding(hairpin),
    portMapping: isAsked ? routers : null,
    servers: seen.observations.map(({ server, mapped, rtt }) => ({
      server: formatAddress(server),
      mapped: mapped === undefined ? null : formatAddress(mapped),
      roundTrip: rtt === undefined ? null : rtt / 1_000,
    })),
  }
}

function describe(seen: NatBehaviour, check: PortMappingCheck, style: Style): string {
  const { udp, translation, publicAddress, mapping, filtering, hairpin, ports } = seen
  const row = (name: string, finding: Finding<unknown>, value: string | undefined): string[] => [
    name,
    value === undefined ? 'not known' : finding.certain ? value : `${value} (likely)`,
    finding.meaning,
  ]
  const step = ports.step === undefined ? '' : `, step ${ports.step}`
  const findings = [
    ['', 'VERDICT', 'WHAT IT MEANS'],
    row('UDP', udp, udp.value === true ? 'passes' : 'blocked'),
    row('public address', publicAddress, addressOf(publicAddress)),
    row('translation', translation, translation.value),
    row('mapping', mapping, mapping.value),
    row('filtering', filtering, filtering.value),
    row('port allocation', ports, ports.value === undefined ? undefined : `${ports.value}${step}`),
    row('hairpin', hairpin, hairpin.value),
    ['port mapping', ...portMappingRow(check)],
  ]
  const servers = seen.observations.map(({ server, mapped, rtt }) => [
    formatAddress(server),
    mapped === undefined ? 'no answer' : formatAddress(mapped),
    rtt === undefined ? '' : `${(rtt / 1_000).toFixed(1)} ms`,
  ])
  const reasons = [filtering, ports, hairpin].flatMap(({ observations }) => observations)
  return [
    `Looked at from UDP ${formatAddress(seen.local)}`,
    '',
    table(style, findings),
    '',
    table(style, [['SERVER', 'SEES THIS SOCKET AT', 'ROUND TRIP'], ...servers]),
    '',
    ...reasons.map((reason) => style.dim(`· ${reason}`)),
  ].join('\n')
}

/** Verdict and meaning. */
function portMappingRow({ isAsked, routers }: PortMappingCheck): [string, string] {
  if (!isAsked) return ['not asked', 'switched off in the configuration (portMapping)']
  const [router] = routers
  if (router === undefined)
    return ['no router', 'this machine has no default route to one that could be asked']
  const spoken = Object.entries(router.protocols).filter(([, { available }]) => available)
  if (spoken.length === 0) {
    return ['none', 'the router opens no port on request; PCP, NAT-PMP or UPnP-IGD may be switched off in it']
  }
  const names = spoken.map(([name]) => name).join(', ')
  const grants = spoken.some(([, { message }]) => message === undefined)
  const refusal = grants ? undefined : spoken.map(([, { message }]) => message)[0]
  return [
    names,
    refusal ?? router.reason ?? 'the router opens a port on request: `natwork up` has it let others in',
  ]
}

function addressOf({ value }: Finding<SocketAddress>): string | undefined {
  return value === undefined ? undefined : formatAddress(value)
}
