import assert from 'node:assert/strict'
import { test } from 'node:test'
import { allPorts, blockOf, PORTS, type PortOrder } from '../../../src/ice/hard/ports.ts'
import { SimRng } from '../../../src/sim/rng.ts'

function take(order: PortOrder, count = Infinity): number[] {
  const ports: number[] = []
  for (let port = order(); port !== undefined && ports.length < count; port = order()) ports.push(port)
  return ports
}

test('every port once, in an order of its own each time', () => {
  const rng = new SimRng(1)
  const [first, second] = [take(allPorts(rng)), take(allPorts(rng))]
  for (const ports of [first, second]) {
    assert.equal(ports.length, PORTS)
    assert.equal(new Set(ports).size, PORTS)
    assert.equal(Math.min(...ports), 1_024)
    assert.equal(Math.max(...ports), 65_535)
  }
  assert.notDeepEqual(first.slice(0, 100), second.slice(0, 100))
})

test('a block: every port of it, no other', () => {
  const ports = take(blockOf(33_000, 1_024, new SimRng(2)))
  assert.deepEqual(
    ports.sort((a, b) => a - b),
    Array.from({ length: 1_024 }, (_, n) => 32_768 + n),
  )
})

// What a NAT opens in a row lies close together: a walk with a pattern passes by all of it.
test('2,048 probes hit 256 neighbouring ports as surely as any 256', () => {
  let missed = 0
  const [orders, runs] = [200, PORTS / 256]
  for (let seed = 0; seed < orders; seed++) {
    const hit = new Set(take(allPorts(new SimRng(seed)), 2_048).map((port) => port >> 8))
    missed += runs - hit.size
  }
  // (1 − 256/64512)^2048 = 0.03 % of all.
  assert.ok(missed <= 0.001 * orders * runs, `${missed} of ${orders * runs} runs of ports were missed`)
})
