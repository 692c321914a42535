import assert from 'node:assert/strict'
import test, { describe } from 'node:test'
import { SECOND } from '../../src/core/index.ts'
import { Attribute, LongTermServerAuth, StaticUsers, StunView } from '../../src/stun/index.ts'
import { PeerPolicy } from '../../src/turn/index.ts'
import {
  Bench,
  external,
  realm,
  users,
  type BenchClient,
  type FakeSocket,
} from '../unit/turn/server-harness.ts'

// ICMP errors make a relay a place to ask questions from: is this port open, is this host there? Under a second.

const peer = { address: '8.8.8.8', port: 53 }
const closed = { type: 3, code: 3, data: 0 }

function allocated(bench: Bench): { client: BenchClient; socket: FakeSocket } {
  const client = bench.client()
  client.allocate()
  return { client, socket: bench.sockets.at(-1)! }
}

/** How many of the errors about datagrams to these ports the client is told of. */
function told(bench: Bench, socket: FakeSocket, address: string, ports: readonly number[]): number {
  for (const port of ports) socket.allocation?.handlePeerIcmp(bench.now, { address, port }, closed)
  return bench.drain().length
}

describe('ICMP errors as an oracle for what only the relay can reach', () => {
  test('of addresses that the policy refuses nothing is told, whatever was asked before', () => {
    const bench = new Bench()
    const { client, socket } = allocated(bench)
    for (const address of ['127.0.0.1', '169.254.169.254', '10.0.0.1', '192.168.1.1', '100.64.0.1']) {
      assert.equal(client.permit(address), 403)
      assert.equal(client.bind(0x4200, { address, port: 80 }), 403)
      client.send({ address, port: 80 }, 'x')
      assert.equal(told(bench, socket, address, [80]), 0, address)
    }
    assert.deepEqual(socket.sent, [], 'nor was anything sent that could meet one')
  })

  test('closed ports of the relay’s own address: only where somebody is relayed now', () => {
    const relayed = new Set([50_001, 50_002])
    const bench = new Bench({
      peers: {
        isRelayed: (_address, port) => relayed.has(port),
        isListening: (_address, port) => port === 3478,
      },
    })
    const { client, socket } = allocated(bench)
    assert.equal(client.permit(external[4]), 0)
    assert.equal(told(bench, socket, external[4], [22, 80, 3478, 6379, 50_003]), 0)
    assert.equal(told(bench, socket, external[4], [50_002]), 1)
    // The port was another client's and is no more: the error that says so would tell when.
    relayed.delete(50_002)
    assert.equal(told(bench, socket, external[4], [50_002]), 0)
  })

  test('a policy that has become stricter holds for errors, too', () => {
    const bench = new Bench({ peers: { allow: ['10.20.0.0/16'] } })
    const { client, socket } = allocated(bench)
    assert.equal(client.permit('10.20.0.1'), 0)
    assert.equal(told(bench, socket, '10.20.0.1', [80]), 1)
    bench.relay.configure({
      auth: new LongTermServerAuth(new StaticUsers(realm, users), Buffer.alloc(32, 1), 600 * SECOND),
      policy: new PeerPolicy(),
    })
    assert.equal(told(bench, socket, '10.20.0.1', [80]), 0)
  })

  test('a scan of all ports of a permitted peer: 20 answers per second, however many allocations ask', () => {
    const bench = new Bench()
    const scanners = Array.from({ length: 32 }, (_, n) => {
      const client = bench.client(41_000 + n)
      client.allocate()
      client.permit(peer.address)
      return bench.sockets.at(-1)!
    })
    const ports = Array.from({ length: 64 }, (_, n) => n + 1)
    let answers = 0
    const SECONDS = 30
    for (let second = 0; second < SECONDS; second++) {
      for (const socket of scanners) answers += told(bench, socket, peer.address, ports)
      bench.pass(1)
    }
    assert.equal(answers, 20 * SECONDS)
  })

  test('an allocation that is given back and made anew is no new budget while another stands', () => {
    const bench = new Bench()
    allocated(bench)
    let answers = 0
    for (let round = 0; round < 10; round++) {
      const client = bench.client(42_000 + round)
      client.allocate()
      client.permit(peer.address)
      answers += told(
        bench,
        bench.sockets.at(-1)!,
        peer.address,
        Array.from({ length: 50 }, (_, n) => n + 1),
      )
      client.refresh(0)
    }
    assert.equal(answers, 20)
  })
})

describe('forged ICMP errors', () => {
  test('of peers that the client has not permitted none gets to it', () => {
    const bench = new Bench()
    const { client, socket } = allocated(bench)
    client.permit(peer.address)
    for (const address of ['8.8.8.9', '1.1.1.1', external[4]])
      assert.equal(told(bench, socket, address, [53]), 0)
  })

  test('they end nothing: the permission, the channel and the path stay', () => {
    const bench = new Bench()
    const { client, socket } = allocated(bench)
    client.bind(0x4201, peer)
    for (let n = 0; n < 100; n++) told(bench, socket, peer.address, [peer.port])
    for (const mtu of [0, 1, 68, 551]) {
      socket.allocation?.handlePeerIcmp(bench.now, peer, { type: 3, code: 4, data: mtu })
    }
    bench.drain()
    assert.equal(client.channel(0x4201, 'x'.repeat(1_400)), true)
    client.send(peer, 'y'.repeat(524), (r) => r.flag(Attribute.DontFragment))
    assert.deepEqual(
      socket.sent.map(({ data }) => data.length),
      [1_400, 524],
    )
    assert.equal(bench.fromPeer(socket, peer, 'still here').length, 1)
  })

  test('a flood of them makes no more for the client than for nobody', () => {
    const bench = new Bench()
    const { client, socket } = allocated(bench)
    client.permit(peer.address)
    let bytes = 0
    for (let n = 0; n < 10_000; n++) {
      socket.allocation?.handlePeerIcmp(bench.now, { ...peer, port: n }, closed)
      for (const { data } of bench.drain()) {
        assert.ok(new StunView().open(data))
        bytes += data.length
      }
    }
    // As many bytes as the 20 indications have: an error itself has 56 at least (RFC 792).
    assert.equal(bytes, 20 * (20 + 12 + 12))
  })
})
