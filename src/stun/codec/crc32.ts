/** CRC-32 of ITU V.42, by table, four bytes at a time (RFC 8489 §14.7, RFC 1952 §8). */
export function crc32(bytes: Uint8Array, end: number): number {
  let crc = -1
  let at = 0
  for (; at + 4 <= end; at += 4) {
    crc ^=
      byte(bytes, at) | (byte(bytes, at + 1) << 8) | (byte(bytes, at + 2) << 16) | (byte(bytes, at + 3) << 24)
    crc =
      entry(768 + (crc & 255)) ^
      entry(512 + ((crc >>> 8) & 255)) ^
      entry(256 + ((crc >>> 16) & 255)) ^
      entry(crc >>> 24)
  }
  for (; at < end; at++) crc = (crc >>> 8) ^ entry((crc ^ byte(bytes, at)) & 255)
  return ~crc >>> 0
}

const byte = (bytes: Uint8Array, at: number): number => bytes[at] ?? 0
const entry = (at: number): number => table[at] ?? 0

/** Four tables of 256: the second advances a byte past one more zero byte than the first, and so on. */
const table = new Int32Array(1024)
for (let n = 0; n < 256; n++) {
  let crc = n
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1
  table[n] = crc
}
for (let n = 256; n < 1024; n++) table[n] = (entry(n - 256) >>> 8) ^ entry(entry(n - 256) & 255)
