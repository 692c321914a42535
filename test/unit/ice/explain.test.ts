// 2 s. Whatever two nodes come to, the explanation says so and why.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SECOND } from '../../../src/core/machine.ts'
import { explain, type ExplanationCode, type TraceEntry } from '../../../src/ice/index.ts'
import type { KindName } from '../../../src/sim/index.ts'
import { Meeting, type MeetingOptions } from '../../sim/ice-world.ts'

const cases: readonly [KindName, KindName, ExplanationCode, RegExp, Partial<MeetingOptions>?][] = [
  ['none', 'full-cone', 'direct', /straight to the peer/],
  ['port-restricted', 'symmetric', 'direct-by-search', /found by trying \(\d+ packets/],
  ['symmetric', 'symmetric', 'both-per-destination', /use --exhaustive, a port mapping/],
  ['udp-blocked', 'none', 'no-udp-here', /No UDP leaves this network/],
  ['none', 'tls-only', 'no-udp-there', /No UDP leaves the peer’s network/],
  ['none', 'firewall6', 'no-common-family', /no kind of address in common/],
  ['client-isolation', 'client-isolation', 'same-router', /behind the same router/],
  ['symmetric', 'port-restricted', 'direct-by-search', /found by trying/, { hints: false }],
]

for (const [a, b, code, sentence, options] of cases) {
  test(`${a} to ${b}: ${code}`, () => {
    const meeting = new Meeting({ a, b, seed: 1, ...options })
    meeting.connect()
    meeting.world.runFor(9 * SECOND)
    const { session } = meeting.a
    const explanation = explain(session.trace, session.pairs)
    assert.equal(explanation.code, code)
    assert.match(explanation.sentence, sentence)
    assert.equal(explanation.outcome, session.path?.kind)
    assert.equal(explanation.pairs[0]?.selected, true)
    assert.ok(explanation.pairs.every(({ words }) => words.length > 0))
    // It survives the wire, and a trace that was written down says the same.
    const read = JSON.parse(JSON.stringify(session.trace)) as TraceEntry[]
    assert.deepEqual(
      JSON.parse(JSON.stringify(explanation)),
      JSON.parse(JSON.stringify(explain(read, session.pairs))),
    )
    assert.equal(explain(read).outcome, explanation.outcome)
  })
}

test('a direct path that was lost, and a relayed one in its place', () => {
  const meeting = new Meeting({ a: 'port-restricted', b: 'full-cone', seed: 1 })
  meeting.connect()
  const { world, a, b } = meeting
  assert.ok(world.run(() => meeting.isDirect, SECOND))
  world.internet.block(a.site.publicAddresses[0]!, b.site.publicAddresses[0]!)
  world.runFor(10 * SECOND)
  const { code, outcome } = explain(a.session.trace, a.session.pairs)
  assert.equal(code, 'direct-lost')
  assert.equal(outcome, 'relayed')
})

test('a search that found nothing says so, and closes its sockets', () => {
  const meeting = new Meeting({ a: 'port-restricted', b: 'symmetric', seed: 1 })
  const { world, a, b } = meeting
  world.internet.block(a.site.publicAddresses[0]!, b.site.publicAddresses[0]!)
  meeting.connect()
  world.runFor(20 * SECOND)
  assert.equal(b.openedSockets, 256)
  assert.equal(b.carriers.size, 0)
  const { code, outcome, sentence } = explain(a.session.trace, a.session.pairs)
  assert.equal(code, 'search-exhausted')
  assert.equal(outcome, 'relayed')
  assert.match(sentence, /2048 packets/)
})

test('no relay, and nothing answers', () => {
  const meeting = new Meeting({ a: 'port-restricted', b: 'full-cone', seed: 1, relay: false })
  const { world, a, b } = meeting
  world.internet.block(a.site.publicAddresses[0]!, b.site.publicAddresses[0]!)
  meeting.connect()
  world.runFor(20 * SECOND)
  const { code, outcome } = explain(a.session.trace, a.session.pairs)
  assert.equal(code, 'nothing-answered')
  assert.equal(outcome, 'none')
})

test('no relay that could show how the routers behave, and nobody says it', () => {
  const meeting = new Meeting({ a: 'symmetric', b: 'port-restricted', seed: 1, relay: false, hints: false })
  meeting.connect()
  meeting.world.runFor(20 * SECOND)
  const { code, sentence } = explain(meeting.a.session.trace, meeting.a.session.pairs)
  assert.equal(code, 'no-hints')
  assert.match(sentence, /natwork netcheck/)
})
