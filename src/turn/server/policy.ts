import {
  holds,
  ipBytes,
  isGloballyReachable,
  parseBlock,
  specialPurposeOf,
  type AddressBlock,
} from '../../core/special-purpose.ts'
import type { SocketAddress } from '../../core/address.ts'
import { TurnUsageError } from '../errors.ts'

export interface PeerPolicyOptions {
  /**
   * Blocks (`10.20.0.0/16`) that peers may be in although they are not globally reachable: for private deployments.
   * An address of this machine is opened only by an entry for it alone.
   */
  readonly allow?: readonly string[]
  /** Blocks that no peer may be in, whatever else says so. */
  readonly deny?: readonly string[]
  /** IP addresses of this machine, and those it is known by outside: what listens there is not to be reached. */
  readonly ownAddresses?: readonly string[]
  /** Is this one of the transport addresses that the server relays at now? Two clients of one relay meet there. */
  readonly isRelayed?: (address: string, port: number) => boolean
  /** Is this a port that this machine listens at for clients or operators? No allow list opens it. */
  readonly isListening?: (address: string, port: number) => boolean
}

/** Undefined: the peer is welcome. Otherwise why it is not, for the log. */
export type Refusal = string | undefined

/**
 * Whom a relay talks to. By default only addresses that a packet can reach across the internet: a relay sits inside
 * somebody's network, and whoever holds a credential would otherwise reach what that network trusts (Slack's TURN
 * servers in 2020: internal services and the cloud metadata at 169.254.169.254).
 *
 * An address is judged by all it may mean, not by how it is written: its bytes, and every IPv4 address that a tunnel or
 * a translator on the way would take out of it. IPv6 addresses that stand for IPv4 ones are refused even when that one
 * is fine, because the IPv4 address itself can be asked for.
 */
export class PeerPolicy {
  readonly #allow: readonly AddressBlock[]
  readonly #deny: readonly AddressBlock[]
  readonly #own: readonly AddressBlock[]
  readonly #options: PeerPolicyOptions
  readonly #judgements = new Map<string, Judgement>()

  /** @throws {TurnUsageError} `ERR_NATWORK_TURN_CONFIG` for a block that is none. */
  constructor(options: PeerPolicyOptions = {}) {
    this.#options = options
    this.#allow = (options.allow ?? []).map(block)
    this.#deny = (options.deny ?? []).map(block)
    this.#own = ['127.0.0.0/8', '::1', ...(options.ownAddresses ?? [])].map(block)
  }

  /** For CreatePermission, where the port means nothing. */
  refusesAddress(address: string): Refusal {
    return this.#judge(address).refusal
  }

  /** For ChannelBind, Send and Connect. */
  refuses({ address, port }: SocketAddress): Refusal {
    const { refusal, own, named } = this.#judge(address)
    if (refusal !== undefined) return refusal
    if (port === 0) return 'port 0'
    if (!own) return undefined
    if (this.#options.isListening?.(address, port) === true) return 'a port that the relay listens at'
    if (named || this.#options.isRelayed?.(address, port) === true) return undefined
    return 'an address of the relay itself'
  }

  /** Does the port matter for this address, beyond not being 0? */
  isOwn(address: string): boolean {
    return this.#judge(address).own
  }

  #judge(address: string): Judgement {
    const known = this.#judgements.get(address)
    if (known !== undefined) return known
    const made = this.#judgeAnew(address)
    if (this.#judgements.size >= MAX_JUDGEMENTS) this.#judgements.clear()
    this.#judgements.set(address, made)
    return made
  }

  #judgeAnew(address: string): Judgement {
    const ip = ipBytes(address)
    if (ip === undefined) return { refusal: 'no IP address', own: false, named: false }
    const readings = readingsOf(ip)
    // Which of our own ports may be reached depends on the port: see refuses().
    const own = readings.some((one) => inAny(this.#own, one))
    const named = this.#allow.some((one) => one.bits === ip.length * 8 && holds(one, ip))
    const refused = (refusal: Refusal): Judgement => ({ refusal, own, named })
    if (readings.some((one) => inAny(this.#deny, one))) return refused('denied by configuration')
    // "MUST NOT accept Teredo or 6to4 addresses", whatever is allowed (RFC 8656 §21.4): a loop of tunnels.
    if (inAny(tunnels, ip)) return refused('an address of Teredo or 6to4')
    for (const one of readings) {
      if (!isGloballyReachable(one) && !inAny(this.#allow, one)) {
        return refused(specialPurposeOf(one)?.name ?? 'not globally reachable')
      }
    }
    return refused(undefined)
  }
}

/** What holds for an address whatever the port. */
interface Judgement {
  readonly refusal: Refusal
  readonly own: boolean
  /** There is an entry in the allow list for it alone. */
  readonly named: boolean
}

/** Addresses that are judged once; with more of them all are forgotten and judged again. */
const MAX_JUDGEMENTS = 4_096

/** The address itself, and each IPv4 address inside it that something on the way may send the packet to. */
function readingsOf(ip: Uint8Array): Uint8Array[] {
  if (ip.length === 4) return [ip]
  const readings = [ip]
  for (const { at, offset, inverted = false } of disguises) {
    // `::` and `::1` lie among the IPv4-compatible addresses, and are not meant.
    if (!holds(at, ip) || holds(unspecifiedAndLoopback, ip)) continue
    const four = ip.slice(offset, offset + 4)
    readings.push(inverted ? four.map((byte) => byte ^ 255) : four)
  }
  // ISATAP: any prefix, then 0000:5efe or 0200:5efe and the IPv4 address (RFC 5214 §6.1).
  if (((ip[8] ?? 0) & 0xfd) === 0 && ip[9] === 0 && ip[10] === 0x5e && ip[11] === 0xfe) {
    readings.push(ip.slice(12))
  }
  return readings
}

interface Disguise {
  readonly at: AddressBlock
  readonly offset: number
  readonly inverted?: boolean
}

const unspecifiedAndLoopback = block('::/127')

const disguises: readonly Disguise[] = [
  { at: block('::/96'), offset: 12 },
  { at: block('::ffff:0:0/96'), offset: 12 },
  { at: block('::ffff:0:0:0/96'), offset: 12 },
  { at: block('64:ff9b::/96'), offset: 12 },
  // RFC 6052 §2.2 with a prefix of 96 bits; shorter ones are refused as the block itself is.
  { at: block('64:ff9b:1::/48'), offset: 12 },
  { at: block('2002::/16'), offset: 2 },
  // Teredo: the server's address, and the client's with every bit turned (RFC 4380 §4).
  { at: block('2001::/32'), offset: 4 },
  { at: block('2001::/32'), offset: 12, inverted: true },
]

/** Teredo, 6to4. */
const tunnels: readonly AddressBlock[] = [block('2001::/32'), block('2002::/16')]

function inAny(blocks: readonly AddressBlock[], ip: Uint8Array): boolean {
  return blocks.some((one) => holds(one, ip))
}

function block(text: string): AddressBlock {
  const parsed = parseBlock(text)
  if (parsed === undefined) {
    throw new TurnUsageError(
      'ERR_NATWORK_TURN_CONFIG',
      `"${text}" is no block of addresses: write 10.20.0.0/16, 2001:db8::/32 or one address`,
    )
  }
  return parsed
}
