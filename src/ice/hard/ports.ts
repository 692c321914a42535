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

/** `first`, then what it has not given of `second`. */
export function thenOthers(first: PortOrder, second: PortOrder): PortOrder {
  const given = new Set<number>()
  return () => {
    let port = first()
    if (port !== undefined) {
      given.add(port)
      return port
    }
    do port = second()
    while (port !== undefined && given.has(port))
    return port
  }
}

/** `order`, without what `others` gives. */
export function without(others: PortOrder, order: PortOrder): PortOrder {
  const left = new Set<number>()
  for (let port = others(); port !== undefined; port = others()) left.add(port)
  return () => {
    let port: number | undefined
    do port = order()
    while (port !== undefined && left.has(port))
    return port
  }
}

/**
 * A shuffle without a table: a Feistel network (Luby and Rackoff, 1988) permutes the next power of four, and what lies beyond
 * the range is passed over. Not a walk by strides: it would have gaps, and what a NAT opens in a row would lie in one of them.
 */
function shuffled(first: number, last: number, rng: Rng): PortOrder {
  const count = last - first + 1
  const half = Math.ceil(Math.log2(count) / 2)
  const keys = Array.from({ length: ROUNDS }, () => rng.uint32())
  let next = 0
  return () => {
    while (next < 1 << (2 * half)) {
      const at = permuted(next++, half, keys)
      if (at < count) return first + at
    }
    return undefined
  }
}

/** `n` has two halves of so many bits; each round mixes one into the other. */
function permuted(n: number, half: number, keys: readonly number[]): number {
  const mask = (1 << half) - 1
  let left = n >>> half
  let right = n & mask
  for (const key of keys) {
    const mixed = left ^ (hash(right ^ key) & mask)
    left = right
    right = mixed
  }
  return (left << half) | right
}

/** Every bit of the result depends on every bit of `n`. */
function hash(n: number): number {
  const once = Math.imul(n ^ (n >>> 16), 0x7feb352d)
  const twice = Math.imul(once ^ (once >>> 15), 0x846ca68b)
  return twice ^ (twice >>> 16)
}

const ROUNDS = 4

function wrapped(port: number): number {
  const count = LAST - FIRST + 1
  return FIRST + ((((port - FIRST) % count) + count) % count)
}
