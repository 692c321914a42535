// What a stranger can do to an ICE machine: nothing. What a peer can make it send: so much.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { SocketAddress } from '../../../src/core/address.ts'
import {
  MILLISECOND,
  SECOND,
  type Carrier,
  type Micros,
  type Path,
  type Transmit,
} from '../../../src/core/machine.ts'
import {
  IceMachine,
  type IceCandidate,
  type IceSession,
  type LocalCandidate,
} from '../../../src/ice/index.ts'
import { writeCheck } from '../../../src/ice/message.ts'
import { SimRng } from '../../../src/sim/rng.ts'
import {
  Attribute,
  ErrorCode,
  MessageClass,
  Method,
  shortTermKey,
  StunBuilder,
  StunView,
} from '../../../src/stun/index.ts'

const OURS: LocalCandidate = { type: 'host', address: { address: '192.0.2.1', port: 1315 } }
const PEER = { address: '198.51.100.1', port: 1315 }
const peerPath: Path = { remote: PEER }
const THEIRS: IceCandidate = { type: 'host', ...PEER, priority: 2_130_706_431, foundation: '1' }
const REMOTE = { ufrag: 'peer', pwd: 'a'.repeat(22) }

function start(controlling = true): { machine: IceMachine; session: IceSession } {
  const machine = new IceMachine({ rng: new SimRng(1) })
  const session = machine.open(0, { controlling, local: { candidates: [OURS] } })
  return { machine, session }
}

function drain(machine: IceMachine): Transmit[] {
  const out: Transmit[] = []
  for (let one = machine.pollTransmit(); one; one = machine.pollTransmit()) out.push(one)
  return out
}

/** Everything it sends of itself until then. */
function run(machine: IceMachine, until: Micros, from: Micros = 0): Transmit[] {
  const out = drain(machine)
  for (
    let at = machine.pollTimeout()?.at ?? Infinity;
    at <= until;
    at = machine.pollTimeout()?.at ?? Infinity
  ) {
    machine.handleTimeout(Math.max(at, from))
    out.push(...drain(machine))
  }
  return out
}

const builder = new StunBuilder()
const view = new StunView()

function check(
  session: IceSession,
  options: { pwd?: string; controlling?: boolean; nomination?: number; tie?: number } = {},
): Uint8Array {
  const { ufrag, pwd } = session.parameters
  return writeCheck(builder, {
    transactionId: new Uint8Array(12).fill(7),
    username: `${ufrag}:${REMOTE.ufrag}`,
    key: shortTermKey(options.pwd ?? pwd),
    priority: 1_845_501_695,
    controlling: options.controlling ?? false,
    tieBreaker: new Uint8Array(8).fill(options.tie ?? 0),
    nomination: options.nomination ?? 0,
  })
}

test('not ours: no STUN, other methods, unknown fragments, answers to nothing, indications', () => {
  const { machine, session } = start()
  const other = start().session
  const message = (method: number, messageClass: 0 | 1 | 2): Uint8Array =>
    builder.start(method, messageClass, new Uint8Array(12)).fingerprint().copy()
  for (const bytes of [
    Uint8Array.of(1, 2, 3),
    message(Method.Allocate, MessageClass.Request),
    message(Method.Binding, MessageClass.Request),
    message(Method.Binding, MessageClass.Success),
    message(Method.Binding, MessageClass.Indication),
    writeCheck(builder, {
      transactionId: new Uint8Array(12),
      username: `nobody:${session.parameters.ufrag}`,
      key: shortTermKey(other.parameters.pwd),
      priority: 1,
      controlling: true,
      tieBreaker: new Uint8Array(8),
      nomination: 0,
    }),
  ]) {
    assert.equal(machine.handleDatagram(0, peerPath, bytes), false)
  }
  assert.deepEqual(drain(machine), [])
})

test('without the password a request changes nothing, and the refusal is smaller than it', () => {
  const { machine, session } = start()
  session.setRemote(0, REMOTE)
  const forged = check(session, { pwd: 'b'.repeat(22), nomination: 1 })
  assert.equal(machine.handleDatagram(0, peerPath, forged), true)
  const [answer, ...more] = drain(machine)
  assert.deepEqual(more, [])
  assert.ok(answer !== undefined && view.open(answer.data))
  assert.equal(view.errorCode()?.code, ErrorCode.Unauthenticated)
  assert.ok(answer.data.length < forged.length)
  assert.deepEqual(session.pairs, [])
  assert.equal(machine.counters.unauthentic, 1)
})

test('the peer’s first check comes before its credentials: it is answered, and followed up when they are there', () => {
  const { machine, session } = start()
  assert.ok(machine.handleDatagram(0, peerPath, check(session)))
  const [answer] = drain(machine)
  assert.ok(answer !== undefined && view.open(answer.data))
  assert.equal(view.messageClass, MessageClass.Success)
  assert.deepEqual(view.mappedAddress(), PEER)
  assert.ok(view.hasIntegrity(shortTermKey(session.parameters.pwd)))
  session.setRemote(1000, REMOTE)
  machine.handleTimeout(1000)
  const [triggered] = drain(machine)
  assert.deepEqual(triggered?.path.remote, PEER)
  assert.equal(session.pairs[0]?.remote.type, 'prflx')
})

test('where the peer is heard while nothing works: told once, to the side that calls, and no path yet', () => {
  for (const controlling of [true, false]) {
    const { machine, session } = start(controlling)
    session.setRemote(0, REMOTE)
    machine.handleDatagram(0, peerPath, check(session, { controlling: !controlling, pwd: 'b'.repeat(22) }))
    assert.deepEqual(promised(machine), [])
    for (let i = 0; i < 2; i++)
      machine.handleDatagram(0, peerPath, check(session, { controlling: !controlling }))
    assert.deepEqual(promised(machine), controlling ? [PEER] : [])
    assert.equal(session.path, undefined)
    // Who may say there what it likes has not shown that it hears us: a check's source is easily invented.
    assert.equal(session.owns(peerPath), false)
  }
})

test('the likeliest way to a peer that has answered is told with the first check there, once', () => {
  const ours: LocalCandidate = {
    type: 'srflx',
    address: { address: '203.0.113.9', port: 1315 },
    base: { address: '192.168.1.2', port: 1315 },
  }
  const inside: IceCandidate = { ...THEIRS, address: '192.168.2.2', priority: THEIRS.priority + 1 }
  const outside: IceCandidate = {
    ...THEIRS,
    type: 'srflx',
    priority: THEIRS.priority - 1_000,
    foundation: '3',
  }
  const second: IceCandidate = { ...outside, port: 1316, priority: THEIRS.priority - 2_000, foundation: '2' }
  const play = (controlling: boolean, candidates: IceCandidate[], sawOurs = true): SocketAddress[] => {
    const machine = new IceMachine({ rng: new SimRng(1) })
    const session = machine.open(0, { controlling, local: { candidates: [ours] } })
    session.setRemote(0, { ...REMOTE, candidates, sawOurs })
    const told: SocketAddress[] = []
    for (let now = 0; now < 100 * MILLISECOND; now += MILLISECOND) {
      machine.handleTimeout(now)
      const sent = drain(machine).map(({ path }) => path.remote)
      const news = promised(machine)
      for (const one of news) assert.ok(sent.some((to) => to.port === one.port && to.address === one.address))
      told.push(...news)
    }
    assert.equal(session.path, undefined)
    assert.equal(session.believes({ remote: PEER }), false, 'nothing was heard there')
    return told
  }
  assert.deepEqual(play(true, [inside, outside, second]), [PEER])
  // The side that was called waits; so does who does not know that the peer has opened its own side.
  assert.deepEqual(play(false, [inside, outside]), [])
  assert.deepEqual(play(true, [inside, outside], false), [])
  // Behind the same NAT there is a better way.
  assert.deepEqual(play(true, [inside, { ...outside, address: ours.address.address }]), [])
  // A relay's address is no way of the socket's own.
  assert.deepEqual(play(true, [{ ...outside, type: 'relay' }]), [])
})

test('where the peer’s check came from, so many connections are believed and no more', () => {
  const { machine, session } = start(false)
  session.setRemote(0, REMOTE)
  assert.equal(session.believes(peerPath), false)
  machine.handleDatagram(0, peerPath, check(session, { controlling: true, pwd: 'b'.repeat(22) }))
  assert.equal(session.believes(peerPath), false)
  for (const port of [PEER.port, 7]) {
    machine.handleDatagram(0, { remote: { ...PEER, port } }, check(session, { controlling: true }))
  }
  assert.equal(session.believes({ remote: { ...PEER, port: 9 } }), false)
  const believed = Array.from({ length: 10 }, (_, i) =>
    session.believes({ remote: { ...PEER, port: i % 2 === 0 ? PEER.port : 7 } }),
  )
  assert.equal(believed.filter(Boolean).length, 4)
  assert.equal(session.owns(peerPath), false)
})

function promised(machine: IceMachine): SocketAddress[] {
  const out: SocketAddress[] = []
  for (let event = machine.pollEvent(); event; event = machine.pollEvent()) {
    if (event.type === 'promising') out.push(event.path.path.remote)
  }
  return out
}

test('an answer counts only from where the question went, and once', () => {
  const { machine, session } = start()
  session.setRemote(0, { ...REMOTE, candidates: [THEIRS] })
  machine.handleTimeout(0)
  const [question] = drain(machine)
  assert.ok(question !== undefined && view.open(question.data))
  const answer = builder
    .startResponse(view, MessageClass.Success)
    .xorAddress(Attribute.XorMappedAddress, OURS.address)
    .integrity(shortTermKey(REMOTE.pwd))
    .fingerprint()
    .copy()
  const elsewhere: Path = { remote: { ...PEER, port: 9 } }
  assert.equal(machine.handleDatagram(1000, elsewhere, answer), true)
  assert.equal(session.path, undefined)
  const wrong = answer.slice()
  assert.ok(view.open(question.data))
  const forged = builder
    .startResponse(view, MessageClass.Success)
    .integrity(shortTermKey('x'.repeat(22)))
    .copy()
  assert.equal(machine.handleDatagram(1000, peerPath, forged), true)
  assert.equal(session.path, undefined)
  assert.equal(machine.handleDatagram(20 * MILLISECOND, peerPath, wrong), true)
  assert.equal(session.validPaths[0]?.rtt, 20 * MILLISECOND)
  assert.equal(machine.handleDatagram(21 * MILLISECOND, peerPath, answer), false)
})

test('role conflict: the larger tie-breaker controls (§7.3.1.1)', () => {
  for (const [controlling, tie, stays] of [
    [true, 0, true],
    [true, 255, false],
    [false, 0, false],
    [false, 255, true],
  ] as const) {
    const { machine, session } = start(controlling)
    session.setRemote(0, REMOTE)
    assert.ok(machine.handleDatagram(0, peerPath, check(session, { controlling, tie })))
    assert.equal(session.controlling, stays ? controlling : !controlling)
    const [answer] = drain(machine)
    assert.ok(answer !== undefined && view.open(answer.data))
    assert.equal(
      view.errorCode()?.code,
      stays === controlling
        ? stays
          ? ErrorCode.RoleConflict
          : undefined
        : controlling
          ? undefined
          : ErrorCode.RoleConflict,
    )
  }
})

test('a comprehension-required attribute that is unknown is named in a 420', () => {
  const { machine, session } = start()
  const { ufrag, pwd } = session.parameters
  const request = builder
    .start(Method.Binding, MessageClass.Request, new Uint8Array(12))
    .text(Attribute.Username, `${ufrag}:peer`)
    .uint32(Attribute.Priority, 1)
    .uint32(0x7ff0, 1)
    .integrity(shortTermKey(pwd))
    .copy()
  assert.ok(machine.handleDatagram(0, peerPath, request))
  const [answer] = drain(machine)
  assert.ok(answer !== undefined && view.open(answer.data))
  assert.equal(view.errorCode()?.code, ErrorCode.UnknownAttribute)
  assert.deepEqual(view.unknownAttributes(), [0x7ff0])
})

test('candidates that point at a victim: 10 checks for each, 400 a minute in all, whatever is named', () => {
  const { machine, session } = start()
  session.setRemote(0, { ...REMOTE, candidates: [{ ...THEIRS, address: '203.0.113.1' }], sawOurs: true })
  assert.equal(run(machine, 30 * SECOND).length, 10)

  // Then a peer that names what it can, trickles more, and restarts every second.
  const sent: Transmit[] = []
  const toOneHost = new Map<string, number>()
  for (let second = 60; second < 120; second++) {
    const now = second * SECOND
    session.setRemote(now, { ufrag: `peer${second}`, pwd: REMOTE.pwd, sawOurs: true })
    for (let i = 0; i < 100; i++) {
      const address = `203.0.113.${1 + (i % 4)}`
      session.addRemoteCandidate(now, { ...THEIRS, address, port: 1000 + second * 100 + i })
    }
    sent.push(...run(machine, now + SECOND - 1, now))
  }
  for (const { path } of sent)
    toOneHost.set(path.remote.address, (toOneHost.get(path.remote.address) ?? 0) + 1)
  assert.ok(sent.length > 300 && sent.length <= 400, `${sent.length} checks`)
  assert.ok(Math.max(...sent.map(({ data }) => data.length)) <= 148)
  assert.ok(session.trace.some((entry) => entry.what === 'candidate-refused' && entry.reason === 'too-many'))
})

test('hints that lie about a victim: 1,000 datagrams a second, 2,048 a minute', () => {
  const machine = new IceMachine({ rng: new SimRng(1) })
  const session = machine.open(0, {
    controlling: true,
    local: { candidates: [OURS] },
    hints: { mapping: 'endpoint-independent', filtering: 'address-and-port-dependent', ports: 'preserving' },
  })
  const victim: IceCandidate = { ...THEIRS, type: 'srflx', address: '203.0.113.1' }
  session.setRemote(0, {
    ...REMOTE,
    candidates: [victim],
    hints: {
      mapping: 'address-and-port-dependent',
      filtering: 'address-and-port-dependent',
      ports: 'random',
    },
  })
  const probes = run(machine, 500 * MILLISECOND)
  assert.ok(probes.length > 400 && probes.length <= 500 + 10, `${probes.length} datagrams in half a second`)
  probes.push(...run(machine, 59 * SECOND, 500 * MILLISECOND))
  assert.ok(probes.length > 2000 && probes.length <= 2048 + 10, `${probes.length} datagrams`)
  assert.ok(probes.every(({ data }) => data.length <= 148))
  assert.equal(new Set(probes.map(({ path }) => path.remote.port)).size >= 2048, true)
})

test('a peer heard through our relay, then named by its candidate: checked by every way of ours, within the same bounds', () => {
  const { machine, session } = start()
  const relay: Carrier = { kind: 'relay', send: () => undefined }
  const permitted: string[] = []
  session.addLocalCandidate(0, {
    type: 'relay',
    address: { address: '192.0.2.9', port: 50_000 },
    via: relay,
    permit: (address) => permitted.push(address),
  })
  session.setRemote(0, REMOTE)
  const heard = (port: number): SocketAddress => {
    const remote = { address: '203.0.113.1', port }
    assert.equal(machine.handleDatagram(0, { remote, via: relay }, check(session)), true)
    return remote
  }
  const moved = heard(21_758)
  assert.ok(
    run(machine, SECOND).every(({ path }) => path.via === relay),
    'through the relay alone, as it was heard',
  )
  session.addRemoteCandidate(SECOND, { ...THEIRS, type: 'srflx', ...moved })
  const sent = run(machine, 2 * SECOND, SECOND).filter(({ path }) => path.via === undefined)
  assert.deepEqual(sent[0]?.path.remote, moved)
  assert.deepEqual(permitted, [moved.address])

  for (let port = 1; port < 100; port++)
    session.addRemoteCandidate(2 * SECOND, { ...THEIRS, type: 'srflx', ...heard(port) })
  run(machine, 3 * SECOND, 2 * SECOND)
  assert.equal(session.pairs.filter(({ local }) => local.type === 'host').length, 8, 'pairs with one address')
})

test('the first answer of a direct path was held up: it is measured again soon, and taken instead of the relay', () => {
  const { machine, session } = start()
  const relay: Carrier = { kind: 'relay', send: () => undefined }
  session.addLocalCandidate(0, {
    type: 'relay',
    address: { address: '192.0.2.9', port: 50_000 },
    via: relay,
    permit: () => undefined,
  })
  session.setRemote(0, { ...REMOTE, options: ['renomination'], candidates: [THEIRS] })
  const onTheirWay: { at: Micros; path: Path; bytes: Uint8Array }[] = []
  for (let now = 0; now <= 2 * SECOND; now += MILLISECOND) {
    machine.handleTimeout(now)
    for (const { path, data } of drain(machine)) {
      assert.ok(view.open(data))
      const bytes = builder
        .startResponse(view, MessageClass.Success)
        .xorAddress(Attribute.XorMappedAddress, OURS.address)
        .integrity(shortTermKey(REMOTE.pwd))
        .fingerprint()
        .copy()
      const takes = path.via === relay ? 60 : now < 600 * MILLISECOND ? 300 : 40
      onTheirWay.push({ at: now + takes * MILLISECOND, path, bytes })
    }
    for (const { path, bytes } of onTheirWay.filter(({ at }) => at === now)) {
      machine.handleDatagram(now, path, bytes)
    }
    if (now === 500 * MILLISECOND) assert.equal(session.path?.kind, 'relayed')
  }
  assert.equal(session.path?.kind, 'direct')
})

test('addresses that reach nobody, or our own services, are not checked', () => {
  const { machine, session } = start()
  const at = (address: string): IceCandidate => ({ ...THEIRS, address })
  session.setRemote(0, {
    ...REMOTE,
    candidates: ['0.0.0.0', '224.0.0.1', '255.255.255.255', '127.0.0.1', '::1', '::', 'ff02::1'].map(at),
  })
  assert.deepEqual(run(machine, 10 * SECOND), [])
})

test('a closed session is nobody’s', () => {
  const { machine, session } = start()
  const request = check(session)
  session.setRemote(0, { ...REMOTE, candidates: [THEIRS] })
  session.close(1)
  assert.equal(machine.handleDatagram(2, peerPath, request), false)
  assert.equal(machine.sessions.size, 0)
  assert.equal(machine.pollTimeout(), undefined)
  assert.throws(() => session.restart(3), { code: 'ERR_NATWORK_ICE_STATE' })
  session.close(4)
})

test('credentials that no agent may have are refused', () => {
  const { session } = start()
  for (const bad of [{ ufrag: 'abc' }, { pwd: 'short' }, { ufrag: 'a b c d' }, { pwd: 'é'.repeat(22) }]) {
    assert.throws(() => session.setRemote(0, { ...REMOTE, ...bad }), { code: 'ERR_NATWORK_ICE_INVALID' })
  }
})
