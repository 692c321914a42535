import type { Rng } from '../../core/ports.ts'

/** The next port to try, or undefined when all were. */
export type PortOrder = () => number | undefined

const FIRST = 1024
const LAST = 65_535

/** N: those that NATs give. */
export const PORTS = LAST - FIRST + 1

/** Every port from 1024 on, once, in an order that only this call knows. */
export function allPorts(rng: Rng): PortOrder {
  return shuffled(FIRST, LAST, rng)
}

/** The aligned block of `size` ports around one of them. */
export function blockOf(port: number, size: number, rng: Rng): PortOrder {
  const first = Math.floor(port / size) * size
  return shuffled(Math.max(FIRST, first), Math.min(LAST, first + size - 1), rng)
}

/** The ports that a sequential NAT gives after `last`, the next one first. */
export function windowFrom(last: number, step: number, count: number): PortOrder {
  let n = 0
  return () => (n < count ? wrapped(last + step * ++n) : undefined)
}

/** Those after `last` and those before it by turns: the newest port seen may be older or newer than what is looked for. */
export function around(last: number, step: number, count: number): PortOrder {
  let n = 0
  return () => {
    if (n >= 2 * count) return undefined
    const distance = (n >> 1) + 1
    return wrapped(last + (n++ % 2 === 0 ? distance : -distance) * step)
  }
}

/** One and the same port for all: the one `ahead` steps after `last`. */
export function inTurn(last: number, step: number, ahead: number): PortOrder {
  const port = wrapped(last + step * Math.round(ahead))
  return () => port
}

export function then(first: PortOrder, second: PortOrder): PortOrder {
  return () => first() ?? second()
}

/** A stride that has no factor in common with the count walks over every port once: a shuffle without a table. */
function shuffled(first: number, last: number, rng: Rng): PortOrder {
  const count = last - first + 1
  let stride = 1 + (rng.uint32() % count)
  while (commonDivisor(stride, count) !== 1) stride = 1 + (stride % count)
  let at = rng.uint32() % count
  let left = count
  return () => {
    if (left-- <= 0) return undefined
    at = (at + stride) % count
    return first + at
  }
}

function wrapped(port: number): number {
  const count = LAST - FIRST + 1
  return FIRST + ((((port - FIRST) % count) + count) % count)
}

function commonDivisor(a: number, b: number): number {
  return b === 0 ? a : commonDivisor(b, a % b)
}
