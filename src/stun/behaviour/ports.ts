import type { Finding, PortAllocation } from './report.ts'
import { portsMean, unknown } from './report.ts'

/** One fresh socket: its own port, and the outer port of its first mapping. In the order of sending. */
export interface PortSample {
  readonly local: number
  readonly mapped: number
}

export interface PortVerdict extends Finding<PortAllocation> {
  /** Of `sequential`: how far the ports are apart. */
  readonly step: number | undefined
}

/**
 * Judges how a NAT chooses ports (RFC 4787 §4.2) by the first mappings of several fresh sockets. Eight samples make a
 * wrong `block` or `sequential` less likely than one in 10⁸.
 *
 * @param silent how many more sockets got no answer, from servers that answer others.
 */
export function judgePorts(samples: readonly PortSample[], silent = 0): PortVerdict {
  const seen = samples.map(({ local, mapped }) => `${local} → ${mapped}`).join(', ')
  const observations = [`own port → outer port: ${seen}`]
  if (silent > 0) observations.push(`${silent} more sockets got no answer`)
  const verdict = (value: PortAllocation, step?: number): PortVerdict => ({
    value,
    step,
    certain: samples.length >= ENOUGH,
    observations,
    meaning: portsMean[value],
  })
  // A static rule gives the one outer port to the one socket that was first with each server.
  if (samples.length === 1 && silent > 1) return verdict('fixed')
  if (samples.length < 2) {
    return { ...unknown('fewer than two sockets got an answer: nothing to compare'), step: undefined }
  }
  const mapped = samples.map((sample) => sample.mapped)
  if (new Set(mapped).size === 1) return verdict('fixed')
  // Another client may hold some of the ports.
  const kept = samples.filter((sample) => sample.local === sample.mapped).length
  if (2 * kept >= samples.length) return verdict('preserving')
  const step = stepOf(mapped)
  if (step !== undefined) return verdict('sequential', step)
  const block = (port: number): number => Math.floor(port / BLOCK)
  if (samples.length >= ENOUGH && mapped.every((port) => block(port) === block(mapped[0] ?? 0))) {
    return verdict('block')
  }
  return verdict('random')
}

const ENOUGH = 6
/** The largest block of ports that counts as a client's own: carriers give 256 to 4,096. */
const BLOCK = 4_096
/** Other clients' mappings in between, and one turn over at the end of the range. */
const MAX_GAP = 64

/** The common step of ports that follow each other; undefined when they do not. */
function stepOf(ports: readonly number[]): number | undefined {
  const gaps = ports.slice(1).map((port, i) => port - (ports[i] ?? 0))
  const forward = gaps.filter((gap) => gap > 0 && gap <= MAX_GAP)
  if (forward.length < 2 || forward.length < gaps.length - 1) return undefined
  return forward.reduce(commonDivisor)
}

function commonDivisor(a: number, b: number): number {
  return b === 0 ? a : commonDivisor(b, a % b)
}
