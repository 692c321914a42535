/**
 * ChannelData (RFC 8656 §12.4): number, length, payload.
 *
 *      0                   1                   2                   3
 *     |       Channel Number          |            Length             |
 *     /                       Application Data                        /
 */

/** Bytes before the payload. */
export const CHANNEL_DATA_HEADER = 4
/** RFC 8656 §12: 0x4000–0x4FFF. */
export const FIRST_CHANNEL = 0x4000
export const LAST_CHANNEL = 0x4fff
/** Where RFC 5766's numbers ended, which RFC 8656 reserves: DTLS's and QUIC's first bytes lie there (RFC 7983). */
export const LAST_OLD_CHANNEL = 0x7fff

/**
 * Numbers whose first byte is 0x41, a uTP SYN's: on a port that also speaks uTP nobody binds them
 * (0x4100–0x41FF).
 */
export function looksLikeUtp(channel: number): boolean {
  return channel >>> 8 === 0x41
}

/** Top bits 01, room for a header: so it begins. Nothing is said about who owns the channel. */
export function mayBeChannelData(bytes: Uint8Array): boolean {
  return bytes.length >= CHANNEL_DATA_HEADER && (bytes[0] ?? 0) >>> 6 === 1
}

export function channelOf(bytes: Uint8Array): number {
  return ((bytes[0] ?? 0) << 8) | (bytes[1] ?? 0)
}

/**
 * Where the payload ends in the datagram or frame, or -1 when the header claims more than is there: "discarded"
 * (RFC 8656 §12.6). Behind it may be padding, also over UDP (§12.5).
 */
export function channelDataEnd(bytes: Uint8Array): number {
  const end = CHANNEL_DATA_HEADER + (((bytes[2] ?? 0) << 8) | (bytes[3] ?? 0))
  return end > bytes.length ? -1 : end
}

/** What a ChannelData message of `payload` bytes takes on a stream: padded to 4 (RFC 8656 §12.5). */
export function streamedChannelDataLength(payload: number): number {
  return CHANNEL_DATA_HEADER + ((payload + 3) & ~3)
}

/**
 * Writes a whole message at the beginning of `into`, which may be longer; on a stream the padding is written too, as
 * zeros, so that nothing of an earlier message leaves the machine (CVE-2020-4067).
 *
 * @returns the bytes written.
 */
export function writeChannelData(
  into: Uint8Array,
  channel: number,
  payload: Uint8Array,
  stream: boolean,
): number {
  const { length } = payload
  into[0] = channel >>> 8
  into[1] = channel
  into[2] = length >>> 8
  into[3] = length
  into.set(payload, CHANNEL_DATA_HEADER)
  const end = CHANNEL_DATA_HEADER + length
  if (!stream) return end
  const whole = streamedChannelDataLength(length)
  for (let at = end; at < whole; at++) into[at] = 0
  return whole
}
