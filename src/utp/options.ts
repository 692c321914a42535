import { MILLISECOND, SECOND, type Micros } from '../core/machine.ts'
import type { CongestionName } from './congestion/controller.ts'
import { CONGESTION_NAMES } from './congestion/index.ts'
import { utpUsageError } from './errors.ts'

/** How one connection behaves. Sizes are bytes, times microseconds. */
export interface UtpConnectionOptions {
  /**
   * Written bytes that wait to be sent or acknowledged, 1,024–1,073,741,824: at most so many, and no more than about
   * twice what the path holds. Default 64 MiB.
   */
  readonly sendBuffer?: number
  /**
   * Received bytes that wait to be read or put in order, 2,048–1,073,741,824: at most so many, and no more than a few
   * times what comes and is read within a round trip. The largest window we advertise. Default 32 MiB.
   */
  readonly receiveBuffer?: number
  /** How long a connect may take, 1 ms or more. Default 15 s. */
  readonly connectTimeout?: Micros
  /**
   * A peer that is silent for so long is gone, 1 s or more; Infinity never gives up. Shortly before, it is asked a few
   * times. Default 45 s. (With data outstanding a peer is given up after 15 to 20 s, whatever this says.)
   */
  readonly idleTimeout?: Micros
  /**
   * Send something at least so often, 1 s or more, so that NATs on the way keep their mapping (RFC 4787 REQ-5 promises
   * 2 minutes, many home routers give 30 s); Infinity sends nothing. Default 20 s.
   */
  readonly keepAliveInterval?: Micros
  /**
   * The largest UDP payload to try on the path, 150–65,507. The default is what fits a 1,500-byte MTU (1,472 over IPv4,
   * 1,452 over IPv6, a little less through a relay), and 8,192 on loopback. Where every link on the way takes jumbo
   * frames of 9,000 bytes, say 8,972; for a few fast connections on loopback, 65,507.
   */
  readonly maxDatagramSize?: number
  /**
   * How this side decides how much may be in flight: `bbr` (the default) is fast also on long and lossy paths, `cubic`
   * behaves as TCP mostly does, `ledbat` gives way to everything else. The peer need not know.
   */
  readonly congestion?: CongestionName
}

/** Limits of one machine, over all its connections. */
export interface UtpLimits {
  /** Whether SYNs are taken. Otherwise they are refused with a RESET. Default true. */
  readonly accept?: boolean
  /** Connections at once, both directions, lingering ones included. Default 65,536. */
  readonly maxConnections?: number
  /**
   * Incoming handshakes whose initiator has not yet shown that it gets our answers; the oldest make room. One takes
   * about 300 bytes. Default 4,096.
   */
  readonly maxHalfOpen?: number
  /** Received bytes that wait to be read or put in order, over all connections. Default 256 MiB. */
  readonly receiveBudget?: number
  /**
   * Bytes of datagrams that the socket holds for us before it drops them (`SO_RCVBUF`), over all connections: their
   * windows together are bounded by it. Default unbounded; `UtpServer` takes what the system granted.
   */
  readonly socketBuffer?: number
  /** RESETs a second that answer datagrams of unknown connections and refused SYNs. Default 100. */
  readonly maxResetsPerSecond?: number
  /** For incoming connections, and what `connect` is not told otherwise. */
  readonly connection?: UtpConnectionOptions
}

export type ConnectionSettings = Required<Omit<UtpConnectionOptions, 'maxDatagramSize'>> &
  Pick<UtpConnectionOptions, 'maxDatagramSize'>

const MIB = 1_048_576
const LARGEST_BUFFER = 1_073_741_824

export const DEFAULT_SETTINGS: ConnectionSettings = {
  sendBuffer: 64 * MIB,
  receiveBuffer: 32 * MIB,
  connectTimeout: 15 * SECOND,
  idleTimeout: 45 * SECOND,
  keepAliveInterval: 20 * SECOND,
  congestion: 'bbr',
}

/** @throws {UsageError} `ERR_NATWORK_UTP_LIMIT` for a value out of its range. */
export function connectionSettings(
  options: UtpConnectionOptions | undefined,
  defaults: ConnectionSettings,
): ConnectionSettings {
  if (options === undefined) return defaults
  const settings = { ...defaults, ...options }
  within('sendBuffer', settings.sendBuffer, 1_024, LARGEST_BUFFER)
  within('receiveBuffer', settings.receiveBuffer, 2_048, LARGEST_BUFFER)
  within('connectTimeout', settings.connectTimeout, MILLISECOND, Infinity)
  within('idleTimeout', settings.idleTimeout, SECOND, Infinity)
  within('keepAliveInterval', settings.keepAliveInterval, SECOND, Infinity)
  if (settings.maxDatagramSize !== undefined) within('maxDatagramSize', settings.maxDatagramSize, 150, 65_507)
  if (!CONGESTION_NAMES.includes(settings.congestion)) {
    throw utpUsageError(
      'ERR_NATWORK_UTP_LIMIT',
      `congestion is "${settings.congestion}": it must be one of ${CONGESTION_NAMES.join(', ')}`,
    )
  }
  return settings
}

export interface MachineLimits {
  readonly accept: boolean
  readonly maxConnections: number
  readonly maxHalfOpen: number
  readonly receiveBudget: number
  readonly socketBuffer: number
  readonly maxResetsPerSecond: number
}

/** @throws {UsageError} `ERR_NATWORK_UTP_LIMIT` for a value out of its range. */
export function machineLimits(options: UtpLimits): MachineLimits {
  const limits = {
    accept: options.accept ?? true,
    maxConnections: options.maxConnections ?? 65_536,
    maxHalfOpen: options.maxHalfOpen ?? 4_096,
    receiveBudget: options.receiveBudget ?? 256 * MIB,
    socketBuffer: options.socketBuffer ?? Infinity,
    maxResetsPerSecond: options.maxResetsPerSecond ?? 100,
  }
  within('maxConnections', limits.maxConnections, 1, Infinity)
  within('maxHalfOpen', limits.maxHalfOpen, 1, 1_000_000)
  within('receiveBudget', limits.receiveBudget, 65_536, Infinity)
  within('socketBuffer', limits.socketBuffer, 4_096, Infinity)
  within('maxResetsPerSecond', limits.maxResetsPerSecond, 0, 1_000_000)
  return limits
}

function within(name: string, value: number, low: number, high: number): void {
  if (value >= low && value <= high) return
  throw utpUsageError(
    'ERR_NATWORK_UTP_LIMIT',
    `${name} is ${value}: it must be ${high === Infinity ? `${low} or more` : `${low} to ${high}`}`,
  )
}
