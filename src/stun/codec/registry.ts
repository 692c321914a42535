/**
 * The numbers of STUN and of what is built on it, as IANA's "STUN Parameters" registry has them. The text form of each
 * name follows from its key: `XorMappedAddress` is XOR-MAPPED-ADDRESS.
 */

/** 12 bits (RFC 8489 §5). */
export const Method = {
  Binding: 0x001, // RFC 8489
  Allocate: 0x003, // RFC 8656 §17, with the five below
  Refresh: 0x004,
  Send: 0x006,
  Data: 0x007,
  CreatePermission: 0x008,
  ChannelBind: 0x009,
  Connect: 0x00a, // RFC 6062 §6.1, with the two below
  ConnectionBind: 0x00b,
  ConnectionAttempt: 0x00c,
} as const

/** The two class bits C1 C0 (RFC 8489 §5). */
export const MessageClass = { Request: 0, Indication: 1, Success: 2, Error: 3 } as const
export type MessageClass = (typeof MessageClass)[keyof typeof MessageClass]

/** 0x0000–0x7FFF must be understood by the receiver, 0x8000–0xFFFF may be ignored (RFC 8489 §14). */
export const Attribute = {
  MappedAddress: 0x0001, // RFC 8489
  ResponseAddress: 0x0002, // RFC 3489 alone
  ChangeRequest: 0x0003, // RFC 5780
  SourceAddress: 0x0004, // RFC 3489 alone
  ChangedAddress: 0x0005, // RFC 3489 alone
  Username: 0x0006,
  Password: 0x0007, // RFC 3489 alone
  MessageIntegrity: 0x0008,
  ErrorCode: 0x0009,
  UnknownAttributes: 0x000a,
  ReflectedFrom: 0x000b, // RFC 3489 alone
  ChannelNumber: 0x000c, // RFC 8656
  Lifetime: 0x000d, // RFC 8656
  XorPeerAddress: 0x0012, // RFC 8656
  Data: 0x0013, // RFC 8656
  Realm: 0x0014,
  Nonce: 0x0015,
  XorRelayedAddress: 0x0016, // RFC 8656
  RequestedAddressFamily: 0x0017, // RFC 8656
  EvenPort: 0x0018, // RFC 8656
  RequestedTransport: 0x0019, // RFC 8656
  DontFragment: 0x001a, // RFC 8656
  AccessToken: 0x001b, // RFC 7635
  MessageIntegritySha256: 0x001c,
  PasswordAlgorithm: 0x001d,
  Userhash: 0x001e,
  XorMappedAddress: 0x0020,
  ReservationToken: 0x0022, // RFC 8656
  Priority: 0x0024, // RFC 8445
  UseCandidate: 0x0025, // RFC 8445
  Padding: 0x0026, // RFC 5780
  ResponsePort: 0x0027, // RFC 5780
  ConnectionId: 0x002a, // RFC 6062
  AdditionalAddressFamily: 0x8000, // RFC 8656
  AddressErrorCode: 0x8001, // RFC 8656
  PasswordAlgorithms: 0x8002,
  AlternateDomain: 0x8003,
  Icmp: 0x8004, // RFC 8656
  Software: 0x8022,
  AlternateServer: 0x8023,
  CacheTimeout: 0x8027, // RFC 5780
  Fingerprint: 0x8028,
  IceControlled: 0x8029, // RFC 8445
  IceControlling: 0x802a, // RFC 8445
  ResponseOrigin: 0x802b, // RFC 5780
  OtherAddress: 0x802c, // RFC 5780
  ThirdPartyAuthorization: 0x802e, // RFC 7635
  MobilityTicket: 0x8030, // RFC 8016
} as const

export const ErrorCode = {
  TryAlternate: 300,
  BadRequest: 400,
  Unauthenticated: 401,
  Forbidden: 403, // RFC 8656
  MobilityForbidden: 405, // RFC 8016
  UnknownAttribute: 420,
  AllocationMismatch: 437, // RFC 8656
  StaleNonce: 438,
  AddressFamilyNotSupported: 440, // RFC 8656
  WrongCredentials: 441, // RFC 8656
  UnsupportedTransportProtocol: 442, // RFC 8656
  PeerAddressFamilyMismatch: 443, // RFC 8656
  ConnectionAlreadyExists: 446, // RFC 6062
  ConnectionTimeoutOrFailure: 447, // RFC 6062
  AllocationQuotaReached: 486, // RFC 8656
  RoleConflict: 487, // RFC 8445
  ServerError: 500,
  InsufficientCapacity: 508, // RFC 8656
} as const

/**
 * The comprehension-required attributes of RFC 8489 and PADDING (RFC 5780): what every client and every server
 * understands, even where it has no use for it.
 */
export const requiredAttributes: readonly number[] = [
  Attribute.MappedAddress,
  Attribute.XorMappedAddress,
  Attribute.Username,
  Attribute.Userhash,
  Attribute.MessageIntegrity,
  Attribute.MessageIntegritySha256,
  Attribute.ErrorCode,
  Attribute.UnknownAttributes,
  Attribute.Realm,
  Attribute.Nonce,
  Attribute.PasswordAlgorithm,
  Attribute.Padding,
]

/** RFC 8489 §18.5. */
export const PasswordAlgorithm = { Md5: 0x0001, Sha256: 0x0002 } as const
export type PasswordAlgorithm = (typeof PasswordAlgorithm)[keyof typeof PasswordAlgorithm]

/** Bit n of the 24 security features, most significant first (RFC 8489 §18.1), as a mask. */
export const SecurityFeature = { PasswordAlgorithms: 0x800000, UsernameAnonymity: 0x400000 } as const

/** `XOR-MAPPED-ADDRESS`; `0x7ff0` for a number that is not in the table. */
export function attributeName(type: number): string {
  return names.get(type) ?? `0x${type.toString(16).padStart(4, '0')}`
}

/** The recommended reason phrase, `Stale Nonce`; empty for a code that is not in the table. */
export function reasonPhrase(code: number): string {
  return reasons.get(code) ?? ''
}

const words = (key: string): string[] => key.split(/(?=[A-Z])/)

const names = new Map<number, string>(
  Object.entries(Attribute).map(([key, type]) => [type, words(key).join('-').toUpperCase()]),
)

const reasons = new Map<number, string>(
  Object.entries(ErrorCode).map(([key, code]) => [
    code,
    words(key)
      .map((word) => (['Not', 'Or'].includes(word) ? word.toLowerCase() : word))
      .join(' '),
  ]),
)
