/**
 * Sequence and acknowledgement numbers are 16 bits and wrap (BEP 29 "seq_nr"). As long as two of them lie less than
 * 32,768 apart, the sign of their difference modulo 65,536 tells which one is older (RFC 1982).
 */
export const SEQUENCE_MASK = 0xffff

/** `a - b` in −32768…32767: negative when `a` is older than `b`. */
export function sequenceDistance(a: number, b: number): number {
  return ((a - b) << 16) >> 16
}

export function sequenceAdd(a: number, n: number): number {
  return (a + n) & SEQUENCE_MASK
}
