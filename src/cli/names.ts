import { isIP } from 'node:net'
import { UsageError } from '../core/index.ts'

/** A TCP address to listen on or to connect to. `host` may be a name. */
export interface HostPort {
  readonly host: string
  readonly port: number
}

/** `127.0.0.1:8080`, `localhost:8080`, `[::1]:8080`; undefined when `text` is none. */
export function readHostPort(text: string): HostPort | undefined {
  const match = /^(?:\[([^\][]+)\]|([^\s:[\]/]+)):(\d{1,5})$/.exec(text)
  const host = match?.[1] ?? match?.[2]
  const port = Number(match?.[3])
  if (host === undefined || port > 65535) return undefined
  if (match?.[1] !== undefined && isIP(host) !== 6) return undefined
  return { host, port }
}

/** What {@link readHostPort} reads. */
export function writeHostPort({ host, port }: HostPort): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

/**
 * `[BIND:]PORT` of `forward` and `proxy`. Without BIND only this machine can connect.
 *
 * @throws {UsageError} `ERR_NATWORK_ARGUMENT`
 */
export function parseListenAddress(text: string): HostPort {
  const address = /^\d+$/.test(text) ? readHostPort(`127.0.0.1:${text}`) : readHostPort(text)
  if (address !== undefined) return address
  throw new UsageError(
    'ERR_NATWORK_ARGUMENT',
    `"${text}" is no place to listen on: write a port (8080) or an address and a port (0.0.0.0:8080)`,
  )
}

const units = { s: 1, m: 60, h: 3_600, d: 86_400 } as const

/**
 * `90s`, `30m`, `12h`, `7d` in seconds.
 *
 * @throws {UsageError} `ERR_NATWORK_ARGUMENT`
 */
export function parseDuration(text: string): number {
  const match = /^(\d{1,6})([smhd])$/.exec(text)
  const seconds = Number(match?.[1]) * units[(match?.[2] ?? 's') as keyof typeof units]
  if (match !== null && seconds > 0) return seconds
  throw new UsageError('ERR_NATWORK_ARGUMENT', `"${text}" is no time: write 90s, 30m, 12h or 7d`)
}
