import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SECOND, type Path } from '../../src/core/index.ts'
import { UtpMachine, type UtpConnection } from '../../src/utp/index.ts'
import {
  CAPABILITIES_SIZE,
  EXTENSION_BITS,
  HEADER_SIZE,
  ST_SYN,
  stamp,
  writeCapabilities,
  writeHeader,
  writePadding,
} from '../../src/utp/packet.ts'
import { pattern, seededRng } from '../unit/utp/harness.ts'

/**
 * Ten million datagrams against a live machine, made from real ones by mutation (FUZZ_DATAGRAMS for another number). About
 * 40 s on two old cores. The machine must not throw, must keep every bound it promises, and must still carry an honest
 * connection byte for byte, which goes on all the while.
 */
const DATAGRAMS = Number(process.env['FUZZ_DATAGRAMS'] ?? 10_000_000)
const ROUND = 50_000
const LIMITS = {
  maxHalfOpen: 200,
  maxConnections: 300,
  receiveBudget: 1_000_000,
  connection: { receiveBuffer: 100_000, sendBuffer: 100_000 },
}

test('mutated datagrams neither crash a live machine, nor grow it, nor disturb an honest connection', () => {
  const seed = Number(process.env['FUZZ_SEED'] ?? 1)
  const random = seededRng(seed)
  // From half of the paths what comes with a SYN is taken in at once.
  const isVerified = ({ remote }: Path): boolean => remote.port % 2 === 0
  const machine = new UtpMachine({ rng: seededRng(seed + 1), isVerified, ...LIMITS })
  const honest = new UtpMachine({ rng: seededRng(seed + 2) })
  const honestPath: Path = { remote: { address: '192.0.2.9', port: 9 } }
  const machinePath: Path = { remote: { address: '192.0.2.1', port: 1 } }
  const paths = Array.from({ length: 64 }, (_, n): Path => ({
    remote: { address: `198.51.100.${n >> 3}`, port: 1_000 + (n & 7) },
  }))
  const corpus = seeds()
  const live = new Set<UtpConnection>()
  let now = SECOND
  let accepted = 0
  let withSyn = 0
  let answers = 0
  let honestTheirs: UtpConnection | undefined
  let honestGot = 0
  let honestSent = 0

  const ours = honest.connect(now, machinePath)
  const bytes = pattern(65_536)
  /** What the honest pair says to each other gets through; what the machine says to strangers teaches the mutator. */
  const drain = (): void => {
    for (let again = true; again;) {
      again = false
      for (let out = honest.pollTransmit(now); out !== undefined; out = honest.pollTransmit(now)) {
        again = true
        assert.ok(machine.handleDatagram(now, honestPath, out.data))
      }
      for (let out = machine.pollTransmit(now); out !== undefined; out = machine.pollTransmit(now)) {
        again = true
        if (out.path === honestPath) honest.handleDatagram(now, machinePath, out.data)
        else learn(corpus, out.data, random.uint32())
        answers++
      }
      for (let event = machine.pollEvent(); event !== undefined; event = machine.pollEvent()) {
        const { connection, type } = event
        if (type === 'incoming') {
          accepted++
          if (connection.beganWith !== undefined) withSyn++
          live.add(connection)
          if (connection.path === honestPath) honestTheirs = connection
          else connection.write(now, bytes.subarray(0, random.uint32() % 3_000))
        } else if (type === 'readable') {
          for (let part = connection.read(now); part !== undefined; part = connection.read(now)) {
            if (connection !== honestTheirs) continue
            for (let i = 0; i < part.length; i++) assert.equal(part[i], bytes[(honestGot + i) & 65_535])
            honestGot += part.length
          }
        } else if (type === 'ended') connection.end(now)
        else if (type === 'closed') live.delete(connection)
      }
      while (honest.pollEvent() !== undefined);
    }
  }

  const scratch = new Uint8Array(4_096)
  drain()
  for (let n = 0; n < DATAGRAMS; n++) {
    const draw = random.uint32()
    const source = corpus[draw % corpus.length]!
    const size = mutate(source, scratch, draw >>> 8, random)
    machine.handleDatagram(now, paths[draw & 63]!, scratch.subarray(0, size))
    if ((n & 63) === 0) drain()
    // Another connection each time.
    if ((n & 255) === 0)
      writeHeader(corpus[SYN_WITH_DATA]!, ST_SYN, EXTENSION_BITS, draw >>> 16, draw & 0xffff)
    if ((n & 1_023) === 0) {
      now += 2_000
      if (honest.pollTimeout()!.at <= now) honest.handleTimeout(now)
      const deadline = machine.pollTimeout()
      if (deadline !== undefined && deadline.at <= now) machine.handleTimeout(now)
      honestSent += ours.write(now, bytes.subarray(honestSent & 65_535, (honestSent & 65_535) + 200))
      drain()
    }
    if (n % ROUND === 0) {
      const { stats } = machine
      assert.ok(stats.halfOpen <= LIMITS.maxHalfOpen, `half-open ${stats.halfOpen}`)
      assert.ok(stats.connections <= LIMITS.maxConnections, `connections ${stats.connections}`)
      // Each connection may hold a little although the budget is used up.
      assert.ok(stats.receiveBytes <= LIMITS.receiveBudget + LIMITS.maxConnections * 20_000)
      for (const connection of live) {
        assert.ok(connection.readable <= LIMITS.connection.receiveBuffer + 4_096)
        assert.ok(connection.stats.inFlight <= LIMITS.connection.sendBuffer)
        assert.ok(connection.olderPaths.length < 4)
      }
      // Some make room for the next, as an application would.
      for (const connection of live) {
        if (connection !== honestTheirs && random.uint32() % 4 === 0) connection.reset(now)
      }
      // Newcomers with data get in while there is room.
      for (let i = 0; i < 20; i++) {
        writeHeader(corpus[SYN_WITH_DATA]!, ST_SYN, EXTENSION_BITS, random.uint32() & 0xffff, i)
        machine.handleDatagram(now, paths[2 * i]!, corpus[SYN_WITH_DATA]!)
      }
      drain()
    }
  }
  for (let wait = 0; wait < 10_000 && honestGot < honestSent; wait++) {
    now += 20_000
    honest.handleTimeout(now)
    machine.handleTimeout(now)
    drain()
  }
  assert.equal(ours.state, 'open', `seed ${seed}`)
  assert.ok(honestSent > DATAGRAMS / 50)
  assert.equal(honestGot, honestSent, `seed ${seed}`)
  // The mutations were not all refused at the door.
  assert.ok(accepted > DATAGRAMS / 20_000, `${accepted} connections accepted`)
  assert.ok(withSyn > DATAGRAMS / ROUND, `${withSyn} connections began with the data of their SYN`)
  assert.ok(answers > DATAGRAMS / 1_000, `${answers} datagrams answered`)
  // Everything a stranger made goes away.
  for (const connection of live) connection.reset(now)
  drain()
  now += 200 * SECOND
  machine.handleTimeout(now)
  drain()
  assert.equal(machine.stats.connections, 0)
  assert.equal(machine.stats.receiveBytes, 0)
  assert.equal(machine.pollTimeout(), undefined)
})

/** The first so many of the corpus stay: {@link seeds}. */
const KINDS = 8
const SYN_WITH_DATA = 5

/** One of each kind of packet. */
function seeds(): Uint8Array[] {
  const list: Uint8Array[] = []
  for (let type = 0; type <= ST_SYN; type++) {
    const bytes = new Uint8Array(HEADER_SIZE + (type === 0 ? 400 : 0))
    writeHeader(bytes, type, 0, 100, 1_000)
    stamp(bytes, 1, 2, 100_000, 1)
    list.push(bytes)
  }
  const together = new Uint8Array(HEADER_SIZE + CAPABILITIES_SIZE + 200)
  writeHeader(together, ST_SYN, EXTENSION_BITS, 102, 1_000)
  writeCapabilities(together, HEADER_SIZE, 4_096)
  stamp(together, 1, 2, 100_000, 0)
  list.push(together)
  const sack = new Uint8Array(HEADER_SIZE + 10).fill(0x55)
  writeHeader(sack, 2, 1, 101, 1_001)
  stamp(sack, 1, 2, 100_000, 1)
  sack[HEADER_SIZE] = 0
  sack[HEADER_SIZE + 1] = 8
  list.push(sack)
  const padded = new Uint8Array(HEADER_SIZE + 300)
  writeHeader(padded, 0, 2, 101, 1_001)
  stamp(padded, 1, 2, 100_000, 1)
  writePadding(padded, 200)
  list.push(padded)
  return list
}

/**
 * What the machine answers, turned into what its peer would say next: ids, numbers and acks that fit, so that mutations
 * get past the handshake. The corpus keeps its size.
 */
function learn(corpus: Uint8Array[], answer: Uint8Array, draw: number): void {
  const view = Buffer.from(answer)
  const type = view[0]! >> 4
  if (type === 3) return
  const next = new Uint8Array(HEADER_SIZE + (draw & 1 ? 300 : 0))
  const expected = view.readUInt16BE(18)
  writeHeader(
    next,
    draw & 1 ? 0 : draw & 2 ? 1 : 2,
    0,
    (view.readUInt16BE(2) + 1) & 0xffff,
    (expected + 1) & 0xffff,
  )
  stamp(next, draw, 3, draw & 4 ? 0 : 200_000, (view.readUInt16BE(16) - (draw & 8 ? 0 : 1)) & 0xffff)
  if (corpus.length < 512) corpus.push(next)
  else corpus[KINDS + ((draw >>> 4) % (512 - KINDS))] = next
}

/** Copies `source` and changes a few things; @returns the size. */
function mutate(source: Uint8Array, into: Uint8Array, draw: number, random: { uint32(): number }): number {
  into.set(source)
  let size = source.length
  // A third as it is: valid packets in strange orders are the better attack.
  if (draw % 3 === 0) return size
  const value = random.uint32()
  switch (draw % 8) {
    case 0:
      into[value % size] = value >>> 24
      break
    case 1:
      into[value % HEADER_SIZE]! ^= 1 << ((value >>> 8) & 7)
      break
    case 2:
      size = value % (size + 1)
      break
    case 3:
      // Numbers near the right ones.
      into[17]! += (value & 15) - 4
      break
    case 4:
      into[19]! += (value & 7) - 3
      break
    case 5: {
      const more = value % 1_500
      into.fill(value & 0xff, size, size + more)
      size += more
      break
    }
    case 6:
      into[1] = value & 3
      into[HEADER_SIZE] = (value >>> 8) & 3
      into[HEADER_SIZE + 1] = value >>> 16
      break
    default:
      into[0] = (((value >>> 8) % 5) << 4) | 1
      into[3]! += value & 3
  }
  return size
}
