import type { SocketAddress } from '../core/address.ts'
import {
  Attribute,
  ErrorCode,
  MessageClass,
  Method,
  type StunBuilder,
  type StunView,
} from '../stun/codec/index.ts'

/** What a connectivity check says (RFC 8445 §7.1). */
export interface Check {
  readonly transactionId: Uint8Array
  /** `theirs:ours` (§7.2.2). */
  readonly username: string
  /** Of the peer's password. */
  readonly key: Uint8Array
  /** Of the peer-reflexive candidate that this check may create (§7.1.1). */
  readonly priority: number
  readonly controlling: boolean
  /** 8 bytes (§5.2). */
  readonly tieBreaker: Uint8Array
  /** 1 and up: USE-CANDIDATE, with the number of this nomination; 0: none. */
  readonly nomination: number
}

/**
 * The number of a nomination, 32 bits (draft-thatcher-ice-renomination, the type that other implementations use): of
 * two that overtake each other on different paths the larger one counts. Optional to understand.
 */
export const NOMINATION = 0xc001

/** At most 148 bytes with natwork's own credentials: 16 + 16 characters of username. */
export function writeCheck(builder: StunBuilder, check: Check): Uint8Array {
  builder
    .start(Method.Binding, MessageClass.Request, check.transactionId)
    .text(Attribute.Username, check.username)
    .uint32(Attribute.Priority, check.priority)
    .bytes(check.controlling ? Attribute.IceControlling : Attribute.IceControlled, check.tieBreaker)
  if (check.nomination > 0) builder.flag(Attribute.UseCandidate).uint32(NOMINATION, check.nomination)
  return builder.integrity(check.key).fingerprint().copy()
}

export function writeSuccess(
  builder: StunBuilder,
  request: StunView,
  key: Uint8Array,
  mapped: SocketAddress,
): Uint8Array {
  return builder
    .startResponse(request, MessageClass.Success)
    .xorAddress(Attribute.XorMappedAddress, mapped)
    .integrity(key)
    .fingerprint()
    .copy()
}

/** Without a key the request was not authentic, and the answer is not either (RFC 8489 §9.1.3). Never longer than the request. */
export function writeError(
  builder: StunBuilder,
  request: StunView,
  code: number,
  key: Uint8Array | undefined,
  unknown: readonly number[] = [],
): Uint8Array {
  builder.startResponse(request, MessageClass.Error).errorCode(code, '')
  if (code === ErrorCode.UnknownAttribute) builder.unknownAttributes(unknown)
  if (key !== undefined) builder.integrity(key)
  return builder.fingerprint().copy()
}

/** Compares the 8 bytes of two tie-breakers as numbers: is `a` the larger or equal one? (§7.3.1.1) */
export function isLargerOrEqual(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) >= 0
}

/** What a receiver of checks understands (RFC 8489 §6.3.1). */
export const understoodInChecks: ReadonlySet<number> = new Set([
  Attribute.Username,
  Attribute.MessageIntegrity,
  Attribute.MessageIntegritySha256,
  Attribute.Priority,
  Attribute.UseCandidate,
])
