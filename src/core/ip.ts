/**
 * IP literals as bytes and back. The text form is the one of core's `SocketAddress`: what the operating system prints
 * (RFC 5952 for IPv6), so that two texts are equal exactly when the addresses are.
 */

/**
 * Writes the address at `at`. A zone (`%eth0`) has no place on the wire and is left out.
 *
 * @returns 4 or 16, the bytes written; 0 when `text` is not an IP literal, and then nothing has changed that matters.
 */
export function writeIp(text: string, into: Uint8Array, at: number): 0 | 4 | 16 {
  return text.includes(':') ? writeIpv6(text, into, at) : writeIpv4(text, into, at)
}

/** The one text form of this address. A text that is no address, or has a zone, comes back as it is. */
export function canonicalIp(text: string): string {
  if (text.includes('%')) return text
  const bytes = new Uint8Array(16)
  const written = writeIp(text, bytes, 0)
  return written === 16 ? readIpv6(bytes, 0) : written === 4 ? readIpv4(bytes, 0) : text
}

export function readIpv4(bytes: Uint8Array, at: number): string {
  return `${bytes[at] ?? 0}.${bytes[at + 1] ?? 0}.${bytes[at + 2] ?? 0}.${bytes[at + 3] ?? 0}`
}

/** RFC 5952: lower case, no leading zeros, the longest run of two or more zero groups as `::` (the first of equals). */
export function readIpv6(bytes: Uint8Array, at: number): string {
  let runStart = -1
  let runLength = 1
  for (let group = 0; group < 8; group++) {
    let length = 0
    while (group + length < 8 && groupAt(bytes, at, group + length) === 0) length++
    if (length > runLength) {
      runStart = group
      runLength = length
    }
    group += length
  }
  // Addresses that hold an IPv4 one end in dots, as inet_ntop(3) prints them (RFC 5952 §5).
  if (runStart === 0 && runLength === 6) return `::${readIpv4(bytes, at + 12)}`
  if (runStart === 0 && runLength === 5 && groupAt(bytes, at, 5) === 0xffff) {
    return `::ffff:${readIpv4(bytes, at + 12)}`
  }
  let text = ''
  for (let group = 0; group < 8; group++) {
    if (group === runStart) {
      text += '::'
      group += runLength - 1
    } else {
      text += (text === '' || text.endsWith(':') ? '' : ':') + groupAt(bytes, at, group).toString(16)
    }
  }
  return text
}

const groupAt = (bytes: Uint8Array, at: number, group: number): number =>
  ((bytes[at + 2 * group] ?? 0) << 8) | (bytes[at + 2 * group + 1] ?? 0)

const DOT = 46
const ZERO = 48

function writeIpv4(text: string, into: Uint8Array, at: number): 0 | 4 {
  let part = 0
  let digits = 0
  let parts = 0
  for (let n = 0; n <= text.length; n++) {
    const code = n < text.length ? text.charCodeAt(n) : DOT
    if (code === DOT) {
      if (digits === 0 || parts === 4) return 0
      into[at + parts++] = part
      part = 0
      digits = 0
    } else {
      const digit = code - ZERO
      part = part * 10 + digit
      if (digit < 0 || digit > 9 || ++digits > 3 || part > 255) return 0
    }
  }
  return parts === 4 ? 4 : 0
}

function writeIpv6(text: string, into: Uint8Array, at: number): 0 | 16 {
  const zone = text.indexOf('%')
  const [head = '', tail, ...more] = (zone < 0 ? text : text.slice(0, zone)).split('::')
  if (more.length > 0) return 0
  const before = groups(head)
  const after = tail === undefined ? [] : groups(tail)
  const zeros = 8 - before.length - after.length
  if (tail === undefined ? zeros !== 0 : zeros < 1) return 0
  const all = [...before, ...new Array<number>(zeros).fill(0), ...after]
  for (const [n, group] of all.entries()) {
    if (!(group <= 0xffff)) return 0
    into[at + 2 * n] = group >>> 8
    into[at + 2 * n + 1] = group & 255
  }
  return 16
}

/** NaN for a part that is no group. The last one may be a dotted quad: two groups. */
function groups(text: string): number[] {
  if (text === '') return []
  return text.split(':').flatMap((part, n, parts) => {
    if (n === parts.length - 1 && part.includes('.')) {
      const quad = new Uint8Array(4)
      return writeIpv4(part, quad, 0) === 4 ? [groupAt(quad, 0, 0), groupAt(quad, 0, 1)] : [NaN]
    }
    return /^[0-9a-fA-F]{1,4}$/.test(part) ? [parseInt(part, 16)] : [NaN]
  })
}
