// 5 s. What those who may send signals can make a node do: floods, and candidates that point at somebody else.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { SECOND } from '../../src/core/index.ts'
import { MAX_PER_ADDRESS, MAX_PER_TARGET, MAX_UNANSWERED, SEARCH_BUDGET } from '../../src/ice/bounds.ts'
import { IceMachine, type IceCandidate, type NatHints } from '../../src/ice/index.ts'
import type { ControlChannel } from '../../src/network/control.ts'
import type { ControlPool } from '../../src/network/control-pool.ts'
import { createIdentity, generatePrivateKey } from '../../src/network/identity.ts'
import { sealSignal } from '../../src/network/signalling/seal.ts'
import { Signaller } from '../../src/network/signalling/signaller.ts'
import { SimRng } from '../../src/sim/rng.ts'

const VICTIM = '203.0.113.9'

interface Knocks {
  packets: number
  bytes: number
}

/** Our NAT keeps its port, and that of the peer is said to give another one per destination. */
const hard: { ours: NatHints; theirs: NatHints } = {
  ours: { mapping: 'endpoint-independent' },
  theirs: { mapping: 'address-and-port-dependent' },
}

/** Opens sessions whose peers name the victim, plays a minute, and counts what the victim gets. */
function knock(peers: number, hints?: { ours: NatHints; theirs: NatHints }): Knocks {
  const machine = new IceMachine({ rng: new SimRng(1) })
  let packets = 0
  let bytes = 0
  const drain = (): void => {
    for (let one = machine.pollTransmit(); one; one = machine.pollTransmit()) {
      if (one.path.remote.address !== VICTIM) continue
      packets++
      bytes += one.data.length
    }
    while (machine.pollEvent() !== undefined);
  }
  const local = { type: 'host', address: { address: '192.0.2.1', port: 1315 } } as const
  const candidates = Array.from({ length: 32 }, (_, i): IceCandidate => ({
    ...{ type: 'host', address: VICTIM, port: 1_000 + i },
    ...{ priority: 2_130_706_431 - i, foundation: String(i) },
  }))
  for (let n = 0; n < peers; n++) {
    const session = machine.open(0, {
      ...{ controlling: false, local: { candidates: [local] } },
      ...(hints && { hints: hints.ours }),
    })
    session.setRemote(0, {
      ...{ ufrag: 'evil', pwd: 'x'.repeat(22), candidates, complete: true },
      ...(hints && { hints: hints.theirs }),
    })
  }
  drain()
  for (
    let at = machine.pollTimeout()?.at ?? Infinity;
    at < 60 * SECOND;
    at = machine.pollTimeout()?.at ?? Infinity
  ) {
    machine.handleTimeout(at)
    drain()
  }
  return { packets, bytes }
}

test('a peer that names a victim 32 times makes us send it 80 packets of 148 bytes at most', () => {
  const { packets, bytes } = knock(1)
  assert.ok(packets > 0 && packets <= MAX_PER_ADDRESS * MAX_UNANSWERED, `${packets} packets`)
  assert.ok(bytes <= packets * 148, `${bytes} bytes in ${packets} packets`)
})

test('however many peers name one victim, it gets 4,000 packets a minute at most', () => {
  const { packets } = knock(100)
  assert.equal(packets, MAX_PER_TARGET)
})

test('a peer that names a victim, and calls its NAT hard, makes us search there as well: 2,128 packets in all', () => {
  const { packets, bytes } = knock(1, hard)
  assert.ok(packets > MAX_PER_ADDRESS * MAX_UNANSWERED, 'no search was begun')
  assert.ok(packets <= MAX_PER_ADDRESS * MAX_UNANSWERED + SEARCH_BUDGET, `${packets} packets`)
  assert.ok(bytes <= packets * 148, `${bytes} bytes in ${packets} packets`)
})

test('however many of those there are, the victim gets 4,000 packets a minute at most', () => {
  const { packets } = knock(100, hard)
  assert.equal(packets, MAX_PER_TARGET)
})

test('a million offers on a thousand streams: most are dropped unread, and one honest sender is heard', async () => {
  const [bob, alice, mallory] = await Promise.all(
    Array.from({ length: 3 }, () => createIdentity(generatePrivateKey())),
  )
  const clock = { now: 1_700_000_000_000 }
  const heard = new Map<string, number>()
  const dropped = new Map<string, number>()
  const count = (map: Map<string, number>, key: string): void => void map.set(key, (map.get(key) ?? 0) + 1)
  const signaller = new Signaller({
    identity: bob!,
    pool: { get: () => undefined } as unknown as ControlPool,
    helpers: () => [],
    schema: z.string(),
    onSignal: ({ from }) => count(heard, from),
    onDropped: (why) => count(dropped, why.split(' ').slice(0, 2).join(' ')),
    now: () => clock.now,
  })
  const streams = Array.from(
    { length: 1_000 },
    (_, n) => ({ peer: `helper ${n}` }) as unknown as ControlChannel,
  )
  const target = { id: bob!.id, sealKey: bob!.sealKey.publicKey }
  const forged = Buffer.alloc(600, 7).toString('base64')
  const sealed = Array.from({ length: 100 }, () =>
    sealSignal(mallory!, target, '"flood"', clock.now).toString('base64'),
  )
  for (let n = 0; n < 1_000_000; n++) {
    // Ten seconds in all; every third one is properly sealed and signed, and most of those are repetitions.
    if (n % 100 === 0) clock.now += 1
    signaller.receive(n % 3 === 0 ? sealed[(n / 3) % sealed.length]! : forged, streams[n % streams.length]!)
  }
  const unread = dropped.get('too many') ?? 0
  assert.ok(unread > 995_000, `${unread} were dropped unread`)
  assert.ok((heard.get(mallory!.id) ?? 0) <= 100, 'a signal was taken twice')
  clock.now += 1_000
  signaller.receive(sealSignal(alice!, target, '"hello"', clock.now).toString('base64'), streams[0]!)
  assert.equal(heard.get(alice!.id), 1)
})
