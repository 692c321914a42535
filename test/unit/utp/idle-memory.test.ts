import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Path } from '../../../src/core/index.ts'
import { UtpMachine } from '../../../src/utp/index.ts'
import type { UtpConnection } from '../../../src/utp/index.ts'
import { seededRng } from './harness.ts'

const CONNECTIONS = 1_000
const BURST = 65_536

// What is measured is what lives after a full collection: no clock and no other process has a part in it. It is 3,700
// bytes and none; a connection that keeps what only a busy one needs holds 9,200 and 70,000.
test('a connection that was busy and is idle now holds little, and nothing outside of the heap', () => {
  const line = new Line()
  line.open(20)
  const before = memory()
  line.open(CONNECTIONS)
  const after = memory()
  const heap = (after.heapUsed - before.heapUsed) / CONNECTIONS
  const buffers = (after.arrayBuffers - before.arrayBuffers) / CONNECTIONS
  assert.ok(heap < 5_000, `both ends of a connection hold ${heap.toFixed(0)} bytes of the heap`)
  // What the machines keep for whoever is busy next, all together.
  assert.ok(buffers < 4_000, `both ends of a connection hold ${buffers.toFixed(0)} bytes of buffers`)
  // They are all alive: measured connections and not garbage.
  assert.equal(line.ends.filter(({ state }) => state === 'open').length, 2 * (CONNECTIONS + 20))
})

/** Two machines that get each other's datagrams at once. */
class Line {
  readonly ends: UtpConnection[] = []
  readonly #machines = [new UtpMachine({ rng: seededRng(1) }), new UtpMachine({ rng: seededRng(2) })] as const
  readonly #paths = [pathOf(1), pathOf(2)] as const
  readonly #received = new Map<UtpConnection, number>()
  #now = 1_000_000

  /** So many connections, each of which carries a burst in both directions and is then left alone for a minute. */
  open(count: number): void {
    const burst = new Uint8Array(BURST)
    for (let n = 0; n < count; n++) {
      const first = this.ends.length
      this.ends.push(this.#machines[0].connect(this.#now, this.#paths[1]))
      this.#settle()
      assert.equal(this.ends.length, first + 2)
      for (const end of this.ends.slice(first)) assert.equal(end.write(this.#now, burst), BURST)
      this.#settle()
      for (const end of this.ends.slice(first)) assert.equal(this.#received.get(end), BURST)
    }
    this.#received.clear()
    for (let second = 0; second < 60; second++) {
      this.#now += 1_000_000
      this.#settle()
    }
  }

  #settle(): void {
    for (let quiet = 0; quiet < 50;) {
      this.#now += 1_000
      quiet++
      for (const [n, machine] of this.#machines.entries()) {
        machine.handleTimeout(this.#now)
        for (let sent = machine.pollTransmit(this.#now); sent; sent = machine.pollTransmit(this.#now)) {
          quiet = 0
          const to = n === 0 ? this.#machines[1] : this.#machines[0]
          to.handleDatagram(this.#now, n === 0 ? this.#paths[0] : this.#paths[1], sent.data.slice())
        }
      }
      for (const machine of this.#machines) {
        for (let event = machine.pollEvent(); event; event = machine.pollEvent()) this.#on(event)
      }
    }
  }

  #on({ type, connection }: { type: string; connection: UtpConnection }): void {
    if (type === 'incoming') this.ends.push(connection)
    if (type !== 'readable') return
    for (let bytes = connection.read(this.#now); bytes; bytes = connection.read(this.#now)) {
      this.#received.set(connection, (this.#received.get(connection) ?? 0) + bytes.length)
    }
  }
}

function pathOf(host: number): Path {
  return { remote: { address: `192.0.2.${host}`, port: 1000 + host } }
}

function memory(): NodeJS.MemoryUsage {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  // Twice: the first one may leave what the second can free.
  collect()
  collect()
  return process.memoryUsage()
}
