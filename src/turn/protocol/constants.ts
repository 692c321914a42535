import { SECOND, type Micros } from '../../core/machine.ts'

/** What an allocation lives without a refresh when the client asks for nothing else (RFC 8656 §3.2). */
export const DEFAULT_LIFETIME: Micros = 600 * SECOND
/** "RECOMMENDED that the maximum lifetime be 3600 seconds" (RFC 8656 §7.2). */
export const MAX_LIFETIME: Micros = 3_600 * SECOND
/** Always this: there is no asking for another (RFC 8656 §9). */
export const PERMISSION_LIFETIME: Micros = 300 * SECOND
/** Refreshed by ChannelBind, never by data (RFC 8656 §12). */
export const CHANNEL_LIFETIME: Micros = 600 * SECOND
/** Neither the number nor the peer of an expired channel binds to another for so long (RFC 8656 §12). */
export const CHANNEL_QUARANTINE: Micros = 300 * SECOND
/** A reserved port waits for its Allocate so long (RFC 8656 §7.2: "30 seconds or more"). */
export const RESERVATION_LIFETIME: Micros = 30 * SECOND
/** RFC 6062 §5.2, §5.4: for Connect to succeed, and for ConnectionBind to come. */
export const CONNECT_TIMEOUT: Micros = 30 * SECOND

/** REQUESTED-TRANSPORT: IANA protocol numbers (RFC 8656 §18.8, RFC 6062 §4.1). */
export const TransportProtocol = { Tcp: 6, Udp: 17 } as const
export type TransportProtocol = (typeof TransportProtocol)[keyof typeof TransportProtocol]

/** REQUESTED-ADDRESS-FAMILY, ADDITIONAL-ADDRESS-FAMILY, ADDRESS-ERROR-CODE (RFC 8656 §18.6). */
export const AddressFamily = { Ipv4: 1, Ipv6: 2 } as const
export type AddressFamily = (typeof AddressFamily)[keyof typeof AddressFamily]

/** EVEN-PORT's R bit: keep the next higher port too (RFC 8656 §18.7). */
export const EVEN_PORT_RESERVE = 0x80
/** Bytes of RESERVATION-TOKEN (RFC 8656 §18.10). */
export const RESERVATION_TOKEN_LENGTH = 8

/** UDP and TCP (RFC 8656 §3.1). */
export const TURN_PORT = 3478
/** TLS. */
export const TURNS_PORT = 5349
/** RFC 7443 §3: what TLS's ALPN calls TURN. */
export const TURN_ALPN = 'stun.turn'
