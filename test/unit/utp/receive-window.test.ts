import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ReceiveBudget, ReceiveWindow, FIRST_WINDOW } from '../../../src/utp/receive-window.ts'
import { RttEstimator } from '../../../src/utp/rtt.ts'
import { Pair, writer } from './harness.ts'

const MIB = 1_048_576

/** `rate` bytes per second come for `seconds`, in steps of 1 ms. @returns the time after it. */
function receive(windows: ReceiveWindow[], from: number, seconds: number, rate: number, rtt = 0): number {
  const end = from + seconds * 1e6
  for (let now = from; now < end; now += 1_000) {
    for (const window of windows) window.tune(now, rtt, rate / 1_000, 0)
  }
  return end
}

test('a window grows with what comes within a round trip, up to its limit, while the application reads', () => {
  const window = new ReceiveWindow(32 * MIB, new ReceiveBudget(1e9, Infinity))
  assert.deepEqual([window.size], [FIRST_WINDOW])
  receive([window], 1e6, 1, 10e6, 200_000)
  // 2 MB a round trip, four of them; and the first, incomplete one.
  assert.ok(window.size >= 8e6 && window.size < 9e6, `${window.size}`)
  receive([window], 10e6, 1, 1e9, 200_000)
  assert.equal(window.size, 32 * MIB)
})

test('a reader that does not keep up gets no larger window', () => {
  const window = new ReceiveWindow(32 * MIB, new ReceiveBudget(1e9, Infinity))
  for (let now = 0; now < 5e6; now += 1_000) window.tune(now, 50_000, 100_000, FIRST_WINDOW / 2)
  assert.equal(window.size, FIRST_WINDOW)
})

test('the windows of all that receive fit together in the socket’s buffer, also in the 212 KB of a plain kernel', () => {
  for (const socketBuffer of [212_992, 4 * MIB]) {
    const budget = new ReceiveBudget(1e9, socketBuffer)
    const windows = Array.from({ length: 20 }, () => new ReceiveWindow(32 * MIB, budget))
    let now = receive(windows, 1e6, 1, 10e6, 1_000)
    const sum = windows.reduce((total, one) => total + one.size, 0)
    assert.ok(sum <= socketBuffer, `${sum} of ${socketBuffer}`)
    // Alone again: all of it is for one.
    now = receive(windows.slice(0, 1), now + 1e6, 1, 10e6, 1_000)
    assert.equal(windows[0]!.size, Math.min(socketBuffer, FIRST_WINDOW))
  }
})

test('on a long path more may be in flight than waits in the socket', () => {
  const window = new ReceiveWindow(32 * MIB, new ReceiveBudget(1e9, 212_992))
  receive([window], 1e6, 2, 20e6, 100_000)
  assert.ok(window.size > 2 * MIB, `${window.size}`)
})

test('who only receives takes the round trip from the timestamps, whatever the clocks say', () => {
  const rtt = new RttEstimator()
  const estimate = (): number => rtt.estimate
  assert.equal(estimate(), 0)
  rtt.oneWayDelays(0, 40_000)
  assert.equal(estimate(), 0, 'the peer has measured nothing yet')
  for (const ahead of [0, 5_000_000, 4_000_000_000]) {
    rtt.reset()
    rtt.oneWayDelays((60_000 + ahead) >>> 0, (40_000 - ahead) >>> 0)
    assert.equal(estimate(), 100_000, `a clock ${ahead} µs ahead`)
    rtt.oneWayDelays((90_000 + ahead) >>> 0, (90_000 - ahead) >>> 0)
    assert.ok(estimate() < 101_000, 'the smallest counts')
  }
  rtt.oneWayDelays(2_000_000_000, 2_000_000_000)
  assert.ok(estimate() < 101_000, 'no path is so long')
  rtt.sample(30_000)
  assert.equal(estimate(), 30_000, 'an acknowledgement tells more')
})

test('a receiver that says nothing opens its window on a long path beyond the socket’s buffer', () => {
  const pair = new Pair({ delay: 50_000 }, { b: { socketBuffer: 212_992 } })
  pair.keepSent = false
  const [ours] = pair.connected()
  const write = writer(ours, new Uint8Array(6_000_000))
  pair.run(() => write(pair.now) && ours.queued === 0)
  assert.ok(ours.stats.peerWindow > 4 * 212_992, `${ours.stats.peerWindow}`)
})
