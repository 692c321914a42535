// 30 s. Helpers that lie, end to end: real nodes on loopback. The connection comes all the same, by an honest helper where
// there is one, or the error says why not; nobody is taken for another one, and no victim gets more than the bound.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { test, type TestContext } from 'node:test'
import { formatAddress, type SocketAddress } from '../../src/core/address.ts'
import type { NatworkError } from '../../src/core/errors.ts'
import { MAX_UNANSWERED } from '../../src/ice/bounds.ts'
import { ControlChannel } from '../../src/network/control.ts'
import type { NetworkOptions, NodeId, NodeInfo } from '../../src/network/index.ts'
import { createIdentity } from '../../src/network/identity.ts'
import { signNodeInfo } from '../../src/network/node-info.ts'
import { RefusedError } from '../../src/network/refusal.ts'
import { sealSignal } from '../../src/network/signalling/seal.ts'
import { readAll } from '../unit/network/duplex-pair.ts'
import { connectionOf, listen, makeNode, type Node } from '../unit/network/nodes.ts'
import { LyingHelper, openVictim, type Lies } from './lying-helper.ts'

/** SYNs of one dial: after 0, 1, 3 and 7 s, until it is given up. */
const MAX_SYNS = 4
/** Checks of one pair, and what looks whether one's own public address leads back. */
const MAX_STUN = MAX_UNANSWERED + 3

type Host = '127.0.0.1' | '::1'

interface Party {
  readonly liar: LyingHelper
  readonly honest: Node | undefined
  readonly callee: Node
  readonly caller: Node
  readonly start: (host: Host, knowsHonest: boolean, options: NetworkOptions) => Promise<Node>
}

interface PartySetup {
  readonly honest?: 'for both' | 'for the callee'
  readonly calleeHost?: Host
  readonly options?: NetworkOptions
}

/** An echo, and somebody who wants it, on a helper that lies, and perhaps on an honest one that each hung on later. */
async function meet(t: TestContext, lies: Lies, setup: PartySetup = {}): Promise<Party> {
  const liar = await LyingHelper.open(t, lies)
  const honest =
    setup.honest && makeNode(t, { host: '::', help: { relay: { allow: ['0.0.0.0/0', '::/0'] } } })
  await honest?.network.start()
  const { port } = await listen(t, (socket) => socket.pipe(socket))
  const start = async (host: Host, knowsHonest: boolean, options: NetworkOptions): Promise<Node> => {
    const helpers = [liar.at(host)]
    if (honest !== undefined && knowsHonest) {
      const address = { address: host, port: honest.network.boundAddress.port }
      helpers.push(`${honest.network.id}@${formatAddress(address)}`)
    }
    const node: Node = makeNode(
      t,
      { host, helpers, timeouts: { headStart: 60_000 }, ...setup.options, ...options },
      {
        // The liar is the first, so that it is the one that is relied on.
        connectToNode: async (id, { dial }) => {
          if (id !== liar.identity.id) await liar.holds((await node.context.getSelf()).id)
          return await dial()
        },
      },
    )
    await node.network.start()
    while (node.network.helpers.length < helpers.length) await once(node.network, 'helpers')
    return node
  }
  const services = [{ name: 'echo', host: '127.0.0.1', port, allow: '*' as const }]
  const callee = await start(setup.calleeHost ?? '127.0.0.1', honest !== undefined, { services })
  const caller = await start('127.0.0.1', setup.honest === 'for both', {})
  return { liar, honest, callee, caller, start }
}

/** The echo comes from the one who was asked for, and that one knows who asks. */
async function echo({ caller, callee }: Party): Promise<void> {
  const stream = await caller.network.connect(callee.network.id, { service: 'echo' })
  assert.equal(stream.peer, callee.network.id)
  const known = [...callee.network.pipes.values()].some(({ peer }) => peer === caller.network.id)
  assert.ok(known, 'the callee takes the caller for somebody else')
  stream.end('hello')
  assert.equal((await readAll(stream)).toString(), 'hello')
}

const flip = (body: string): string => {
  const bytes = Buffer.from(body, 'base64')
  bytes[bytes.length >> 1]! ^= 1
  return bytes.toString('base64')
}

/** What it says in place of the signal, in its own name, since it can say nothing in another one. */
function forge(liar: LyingHelper, to: NodeInfo, victim: NodeInfo): string[] {
  const link = 'ab'.repeat(16)
  const parameters = { ufrag: 'forged', pwd: 'x'.repeat(22) }
  const candidates = [{ type: 'host', address: '127.0.0.1', port: 9, priority: 1, foundation: '1' }]
  const described = { link, parameters, candidates, hints: {}, complete: true }
  return [
    { type: 'offer', ...described, record: victim },
    { type: 'answer', ...described, to: 'forged' },
    { type: 'candidates', link, ufrag: 'forged', candidates, complete: true },
    { type: 'bye', link, why: 'forged' },
  ].map((message) =>
    sealSignal(
      liar.identity,
      { id: to.id, sealKey: Buffer.from(to.sealKey!, 'base64') },
      JSON.stringify(message),
      Date.now(),
    ).toString('base64'),
  )
}

const recordOf = (liar: LyingHelper, id: string): NodeInfo => liar.records.findLast((one) => one.id === id)!

/** Those with which nothing arrives as it was sent. */
const fatal: Readonly<Record<string, Lies>> = {
  'says yes and drops every signal': { signal: () => undefined },
  'never answers': { signal: () => new Promise(() => undefined) },
  'says that nobody is there': {
    signal: () => {
      throw new RefusedError('ERR_NATWORK_NOT_ATTACHED', 'no')
    },
  },
  'alters every signal': { signal: ({ to, body }, liar) => liar.hand(flip(body), to) },
  'hands signals to the wrong node': { signal: ({ from, body }, liar) => liar.hand(body, from) },
  'forges signals': {
    signal: async ({ from, to }, liar) => {
      const bodies = forge(liar, recordOf(liar, to), recordOf(liar, from))
      bodies.push(randomBytes(600).toString('base64'))
      for (const body of bodies) await liar.hand(body, to)
    },
  },
}

for (const [what, lies] of Object.entries(fatal)) {
  test(`a helper that ${what}: the connection comes by the callee’s other one`, async (t) => {
    const party = await meet(t, lies, { honest: 'for the callee' })
    await echo(party)
    assert.ok(party.liar.passed.length > 0, 'the liar was not relied on')
    const { path } = connectionOf(party.caller, party.callee)
    assert.deepEqual(path?.remote, party.callee.network.boundAddress)
    assert.equal(connectionOf(party.callee, party.caller).path?.kind, 'direct')
  })
}

test('with such a helper alone the call fails with a typed error', async (t) => {
  await Promise.all(
    Object.values(fatal).map(async (lies) => {
      // Of two families, so that no address helps.
      const options = { timeouts: { connect: 4_000 } }
      const { caller, callee } = await meet(t, lies, { calleeHost: '::1', options })
      await assert.rejects(caller.network.connect(callee.network.id, { service: 'echo' }), {
        code: /^ERR_NATWORK_(TIMEOUT|NODE_UNREACHABLE)$/,
        message: /\S+ \S+ \S+/,
      })
      assert.equal(callee.network.pipes.size, 0)
    }),
  )
})

/** Those with which everything arrives, but not as it was meant. */
const bearable: Readonly<Record<string, Lies>> = {
  'doubles signals': {
    signal: async ({ to, body }, liar) => {
      await Promise.all([liar.hand(body, to), liar.hand(body, to), liar.hand(body, to)])
    },
  },
  'repeats everything with every signal': {
    signal: async ({ to }, liar) => {
      for (const one of liar.passed.filter((other) => other.to === to)) await liar.hand(one.body, to)
    },
  },
  'hands signals over in the wrong order': {
    signal: ({ to, body }, liar) => {
      // The newest first, until the oldest has waited half a second.
      const age = liar.passed.filter((other) => other.to === to).length
      setTimeout(() => void liar.hand(body, to), Math.max(0, 500 - 100 * age))
    },
  },
}

for (const [what, lies] of Object.entries(bearable)) {
  test(`a helper that ${what}: the connection comes, and lasts`, async (t) => {
    const party = await meet(t, lies)
    await echo(party)
    const { liar, caller, callee } = party
    // Signals of the link, again: nothing begins anew.
    for (const { to, body } of liar.passed) await liar.hand(body, to)
    await echo(party)
    for (const [one, other] of [
      [caller, callee],
      [callee, caller],
    ] as const) {
      const { history, trace, state } = connectionOf(one, other)
      assert.equal(state, 'connected')
      assert.equal(history.length, 1)
      assert.ok(!trace.some((step) => step.what === 'restarted'))
    }
  })
}

/** What a helper may say of the node that is asked for, besides the truth. */
const untruths: Readonly<Record<string, (party: Party, old: NodeInfo) => unknown>> = {
  nothing: () => undefined,
  'the record of another node': ({ liar, callee }) => liar.records.find(({ id }) => id !== callee.network.id),
  'an altered record': ({ liar, callee }) => ({ ...recordOf(liar, callee.network.id), addresses: [] }),
  'an old record': (_party, old) => old,
}

test('what a helper says of a node and is not so is not the last word: a slower one knows better', async (t) => {
  const says = new Map<NodeId, () => unknown>()
  const find = (_id: NodeId, known: unknown, asker: NodeId): unknown => says.get(asker)?.() ?? known
  const party = await meet(t, { find }, { honest: 'for both' })
  const { callee, start, honest } = party
  // As the node was before it moved: nobody is there any more.
  const { address } = await openVictim(t, '127.0.0.1')
  const identity = await createIdentity(await callee.context.getPrivateKey())
  const old = signNodeInfo(identity, { addresses: [address], sequence: 1, expires: 2_000_000_000 })
  const original = Object.getOwnPropertyDescriptor(ControlChannel.prototype, 'find')!.value as (
    ...asked: Parameters<ControlChannel['find']>
  ) => ReturnType<ControlChannel['find']>
  t.mock.method(ControlChannel.prototype, 'find', async function (this: ControlChannel, ...asked: [NodeId]) {
    if (this.peer === honest?.network.id) await sleep(200)
    return await original.apply(this, asked)
  })
  await Promise.all(
    Object.entries(untruths).map(async ([what, lie]) => {
      const caller = await start('127.0.0.1', true, {})
      says.set(caller.network.id, () => lie(party, old) ?? null)
      await echo({ ...party, caller })
      assert.equal(
        (await caller.directory.get(callee.network.id))?.sequence,
        callee.network.self.sequence,
        `${what}: the old record was kept`,
      )
    }),
  )
})

test('a helper that names a victim as the address that it sees: 10 checks from each side, 3 packets that look for a hairpin, and SYNs', async (t) => {
  const victim = await openVictim(t, '127.0.0.77')
  const party = await meet(t, { seen: () => victim.address })
  await echo(party)
  await Promise.all([checked(party.caller, party.callee), checked(party.callee, party.caller)])
  assert.ok(victim.got.checks > 0, 'nothing was named')
  assert.ok(victim.got.checks <= 2 * MAX_STUN, `${victim.got.checks} checks`)
  assert.ok(victim.got.packets <= 2 * (MAX_STUN + MAX_SYNS), `${victim.got.packets} packets`)
  assert.ok(victim.got.largest <= 148, `${victim.got.largest} bytes`)
})

test('two helpers that see a node at two addresses of others: the connection comes', async (t) => {
  const victims = await Promise.all(['127.0.0.77', '127.0.0.78'].map((host) => openVictim(t, host)))
  const second = await LyingHelper.open(t, { seen: () => victims[1]!.address })
  const options = { stun: [`stun:127.0.0.1:${second.port}`] }
  const party = await meet(t, { seen: () => victims[0]!.address }, { options })
  await echo(party)
  await Promise.all([checked(party.caller, party.callee), checked(party.callee, party.caller)])
  for (const { got } of victims) assert.ok(got.checks <= 2 * MAX_STUN, `${got.checks} checks`)
})

test('a helper that names the address of another node as ours: that one is not taken for us', async (t) => {
  const { port } = await listen(t, (socket) => socket.end('I am somebody else'))
  const impostor = makeNode(t, { services: [{ name: 'echo', host: '127.0.0.1', port, allow: '*' }] })
  await impostor.network.start()
  const seen = (): SocketAddress => impostor.network.boundAddress
  // Without a word to the callee, so that addresses are all there is.
  const party = await meet(
    t,
    { seen, signal: () => undefined },
    { options: { timeouts: { headStart: 100, connect: 3_000 } } },
  )
  assert.deepEqual(party.callee.network.self.addresses[0], impostor.network.boundAddress)
  await echo(party)
  assert.equal(impostor.network.pipes.size, 0)
  // Where the address leads only to the other one, the call fails, and says why.
  const { id } = party.callee.network
  await party.callee.network.stop()
  await assert.rejects(
    party.caller.network.connect(id, { service: 'echo', addresses: [seen()] }),
    ({ code }: NatworkError) => code === 'ERR_NATWORK_IDENTITY' || code === 'ERR_NATWORK_TIMEOUT',
  )
  assert.equal(impostor.network.pipes.size, 0)
})

test('a helper that names a victim as its relay’s address: at most 10 checks', async (t) => {
  const victim = await openVictim(t, '127.0.0.77')
  const party = await meet(t, { relay: victim.address })
  await echo(party)
  await checked(party.callee, party.caller)
  assert.ok(victim.got.checks > 0, 'nothing was named')
  assert.ok(victim.got.checks <= MAX_UNANSWERED, `${victim.got.checks} checks`)
})

/** Resolves when every pair has been tried to its end. */
async function checked(node: Node, peer: Node): Promise<void> {
  const isDone = (): boolean =>
    connectionOf(node, peer).pairs.every(({ state }) => state === 'succeeded' || state === 'failed')
  while (!isDone()) await once(node.network, 'trace')
}
