// 1 s. Months of port mapping in virtual time, with a router that behaves in all the ways that the RFCs allow, and others.
import assert from 'node:assert/strict'
import test from 'node:test'
import { MILLISECOND, SECOND } from '../../src/core/machine.ts'
import type { MappingEvent } from '../../src/portmap/mapping.ts'
import { Bench, CLIENT, GATEWAY, type GatewayOptions } from './port-mapping-gateway.ts'

const HOUR = 3_600 * SECOND

function opened(options: GatewayOptions, seed?: number): Bench {
  const bench = new Bench(options, seed)
  bench.mapper.open(bench.now)
  bench.run(4 * SECOND)
  return bench
}

function only<Type extends MappingEvent['type']>(bench: Bench, type: Type): MappingEvent & { type: Type } {
  const events = bench.events.splice(0).map(({ event }) => event)
  assert.deepEqual(
    events.map((event) => event.type),
    [type],
    JSON.stringify(events),
  )
  return events[0] as MappingEvent & { type: Type }
}

const everything = { pcp: true, natPmp: true, upnp: 2 } as const

const cases = [
  { name: 'all three', options: everything, protocol: 'pcp', within: 3 },
  { name: 'PCP', options: { pcp: true }, protocol: 'pcp', within: 3 },
  { name: 'NAT-PMP and UPnP-IGD', options: { natPmp: true, upnp: 1 }, protocol: 'nat-pmp', within: 7 },
  { name: 'NAT-PMP, deaf to PCP', options: { natPmp: 'deaf' }, protocol: 'nat-pmp', within: 260 },
  { name: 'UPnP-IGD 1', options: { upnp: 1 }, protocol: 'upnp-igd', within: 1_760 },
  { name: 'UPnP-IGD 2', options: { upnp: 2 }, protocol: 'upnp-igd', within: 1_760 },
] as const

for (const { name, options, protocol, within } of cases) {
  test(`a router that speaks ${name}: mapped, renewed for weeks, removed`, () => {
    const bench = opened(options)
    const started = bench.now - 4 * SECOND
    const at = bench.events[0]!.at
    assert.ok(at - started <= within * MILLISECOND, `after ${(at - started) / MILLISECOND} ms`)
    const mapped = only(bench, 'mapped')
    assert.equal(mapped.protocol, protocol)
    assert.deepEqual(mapped.external, { address: '203.0.113.5', port: CLIENT.port })
    assert.equal(mapped.lifetime, 7_200)
    for (let hour = 0; hour < 24 * 21; hour++) {
      bench.run(HOUR)
      const [held] = bench.gateway.held.values()
      assert.ok(held!.expiresAt > bench.now, `lapsed in hour ${hour}`)
    }
    assert.deepEqual(bench.news(), [])
    bench.mapper.close(bench.now)
    bench.run(4 * SECOND)
    assert.deepEqual(bench.news(), ['removed'])
    assert.equal(bench.gateway.held.size, 0)
    assert.equal(bench.mapper.pollTimeout(), undefined)
  })
}

test('only one of the three protocols makes a mapping', () => {
  const { gateway } = opened(everything)
  assert.deepEqual(gateway.times('AddAnyPortMapping'), [])
  assert.deepEqual(gateway.times('nat-pmp map'), [])
  assert.equal(gateway.times('pcp map').length, 1)
})

test('renewals come in the second half of the lifetime, each at its own time (RFC 6887 §11.2.1)', () => {
  const delays = [1, 2, 3, 4, 5, 6].map((seed) => {
    const bench = opened({ pcp: true, longestLifetime: 1_000 }, seed * 7919)
    bench.run(700 * SECOND)
    const [first = 0, second = 0] = bench.gateway.times('pcp map')
    return (second - first) / SECOND
  })
  for (const delay of delays) assert.ok(delay >= 500 && delay <= 626, String(delay))
  assert.ok(new Set(delays).size > 3, delays.join(' '))
})

test('a router that shortens lifetimes is renewed at its pace', () => {
  const bench = opened({ natPmp: true, longestLifetime: 120 })
  assert.equal(only(bench, 'mapped').lifetime, 120)
  bench.run(1_200 * SECOND)
  const renewals = bench.gateway.times('nat-pmp map').length - 1
  assert.ok(renewals >= 16 && renewals <= 20, String(renewals))
  assert.deepEqual(bench.news(), [])
})

for (const protocol of ['pcp', 'nat-pmp'] as const) {
  const options = { pcp: protocol === 'pcp', natPmp: true }
  test(`${protocol}: a router that restarts is found out within a minute and mapped again`, () => {
    const bench = opened(options)
    bench.run(600 * SECOND)
    bench.gateway.reboot(bench.now)
    bench.run(70 * SECOND)
    assert.equal(bench.gateway.held.size, 1)
    // The same port: nobody needs to hear of it.
    assert.deepEqual(bench.news(), ['mapped'])
  })

  test(`${protocol}: a router's announcement has the mapping back within 5 seconds`, () => {
    const bench = opened(options)
    bench.run(300 * SECOND)
    bench.gateway.reboot(bench.now)
    bench.deliver(bench.gateway.announcement(bench.now, protocol))
    bench.run(5 * SECOND)
    assert.equal(bench.gateway.held.size, 1)
  })

  test(`${protocol}: an announcement of another host, or one that tells of no restart, changes nothing`, () => {
    const bench = opened(options)
    bench.run(10 * SECOND)
    const before = bench.gateway.log.length
    bench.deliver(bench.gateway.announcement(bench.now, protocol))
    bench.gateway.epochAt = bench.now
    bench.deliver(bench.gateway.announcement(bench.now, protocol), { address: '192.168.1.66', port: 5351 })
    bench.deliver(bench.gateway.announcement(bench.now, protocol), { address: GATEWAY, port: 5350 })
    bench.run(6 * SECOND)
    assert.equal(bench.gateway.log.length, before)
  })
}

test('a restart that gives another port or address is told', () => {
  const bench = opened({ pcp: true })
  bench.news()
  bench.gateway.reboot(bench.now)
  bench.gateway.held.set(CLIENT.port, {
    internal: { address: '192.168.1.99', port: 9 },
    nonce: '',
    expiresAt: Infinity,
  })
  bench.gateway.options = { pcp: true, external: '203.0.113.77' }
  bench.mapper.recheck(bench.now)
  bench.run(6 * SECOND)
  assert.deepEqual(only(bench, 'mapped').external, { address: '203.0.113.77', port: CLIENT.port + 1 })
})

test('NAT-PMP: another outer address is told, also by announcement alone', () => {
  const bench = opened({ natPmp: true })
  bench.news()
  bench.gateway.options = { natPmp: true, external: '203.0.113.8' }
  bench.deliver(bench.gateway.announcement(bench.now, 'nat-pmp'))
  bench.run(SECOND)
  assert.equal(only(bench, 'mapped').external.address, '203.0.113.8')
})

test('UPnP-IGD: a mapping that is gone is made again within a minute; a silent router is given up', () => {
  const bench = opened({ upnp: 1 })
  bench.news()
  bench.gateway.held.clear()
  bench.run(61 * SECOND)
  assert.equal(bench.gateway.held.size, 1)
  assert.deepEqual(bench.news(), [])
  bench.gateway.isOn = false
  bench.run(400 * SECOND)
  assert.deepEqual(bench.news(), ['lost', 'unavailable'])
  bench.gateway.isOn = true
  bench.gateway.reboot(bench.now)
  bench.run(600 * SECOND)
  assert.deepEqual(bench.news(), ['mapped'])
})

test('a router that goes silent: the mapping counts until its time is over, and is tried for again', () => {
  const bench = opened({ pcp: true })
  bench.news()
  bench.gateway.isOn = false
  bench.run(7_100 * SECOND)
  assert.deepEqual(bench.news(), [])
  bench.run(150 * SECOND)
  assert.deepEqual(bench.news(), ['lost', 'unavailable'])
  // Tried with patience: nine renewals at most in two hours, and few requests after.
  const asked = bench.gateway.log.length
  bench.gateway.isOn = true
  bench.run(601 * SECOND)
  assert.deepEqual(bench.news(), ['mapped'])
  assert.ok(bench.gateway.log.length > asked)
})

test('refusals say what to do, and are asked again when the router said', () => {
  const quota = opened({ pcp: true, pcpResult: 10 })
  const event = only(quota, 'unavailable')
  assert.equal(event.reason, 'refused')
  assert.match(event.message, /quota/)
  assert.equal(event.retryAfter, 90 * SECOND)
  quota.gateway.options = { pcp: true }
  quota.run(91 * SECOND)
  assert.deepEqual(quota.news(), ['mapped'])

  assert.match(only(opened({ natPmp: true, natPmpResult: 2 }), 'unavailable').message, /switched off/)
  assert.match(only(opened({ upnp: 1, upnpError: () => 606 }), 'unavailable').message, /switched off/)
  assert.match(only(opened({ upnp: 1, upnpError: () => 501 }), 'unavailable').message, /error 501 No/)
  const none = only(opened({}), 'unavailable')
  assert.equal(none.reason, 'no-answer')
  assert.match(none.message, /none of PCP, NAT-PMP and UPnP-IGD/)
})

test('a refusal is told once, however often it is repeated', () => {
  const bench = opened({ natPmp: true, natPmpResult: 4 })
  bench.run(4 * HOUR)
  assert.deepEqual(bench.news(), ['unavailable'])
})

test('a refused renewal leaves the mapping until its time is over', () => {
  const bench = opened({ pcp: true, longestLifetime: 1_000 })
  bench.news()
  bench.gateway.options = { pcp: true, pcpResult: 8 }
  bench.run(990 * SECOND)
  assert.deepEqual(bench.news(), [])
  bench.run(30 * SECOND)
  assert.deepEqual(bench.news(), ['lost', 'unavailable'])
})

test('a mapping of a process that died, whose nonce nobody knows, is taken over by NAT-PMP', () => {
  const bench = new Bench({ pcp: true, natPmp: true })
  bench.gateway.held.set(1315, { internal: CLIENT, nonce: 'somebody', expiresAt: Infinity })
  bench.mapper.open(bench.now)
  bench.run(SECOND)
  assert.equal(only(bench, 'mapped').protocol, 'nat-pmp')
})

test('UPnP-IGD: another port where ours is taken, no lease where the router wants none, the older action', () => {
  const taken = opened({
    upnp: 1,
    upnpError: (_, body) => (body.includes(`<NewExternalPort>${CLIENT.port}<`) ? 718 : undefined),
  })
  const { external, lifetime } = only(taken, 'mapped')
  assert.notEqual(external.port, CLIENT.port)
  assert.equal(lifetime, 7_200)

  const permanent = opened({
    upnp: 1,
    upnpError: (_, body) => (body.includes('<NewLeaseDuration>0<') ? undefined : 725),
  })
  assert.equal(only(permanent, 'mapped').lifetime, Infinity)
  permanent.run(24 * HOUR)
  assert.deepEqual(permanent.news(), [])

  const older = opened({ upnp: 2, upnpError: (action) => (action === 'AddAnyPortMapping' ? 401 : undefined) })
  assert.equal(only(older, 'mapped').external.port, CLIENT.port)

  const stubborn = opened({ upnp: 1, upnpError: () => 718 })
  assert.match(only(stubborn, 'unavailable').message, /somebody else/)
  assert.equal(stubborn.gateway.times('AddPortMapping').length, 5)
})

test('a description anywhere but on the router itself is not fetched', () => {
  for (const location of [
    'http://192.168.1.66/x.xml',
    'http://192.168.1.1.example.org/x.xml',
    'http://192.168.1.1@192.168.1.66/x.xml',
    'https://192.168.1.1/x.xml',
    'file:///etc/passwd',
    'http://127.0.0.1:80/',
    'http://user:secret@192.168.1.1/x.xml',
  ]) {
    // FakeGateway.http throws for a request to anybody else.
    const bench = opened({ upnp: 1, location })
    assert.equal(only(bench, 'unavailable').reason, 'no-answer', location)
  }
})

test('answers from anybody but the router, and answers to other requests, map nothing', () => {
  const bench = new Bench({})
  bench.mapper.open(bench.now)
  const source = opened({ pcp: true })
  // A right answer to somebody else: of another nonce.
  const request = Buffer.alloc(60)
  request.set([2, 1])
  request.writeUInt32BE(7_200, 4)
  request[36] = 17
  request.writeUInt16BE(CLIENT.port, 40)
  const [answer] = new Bench({ pcp: true }).gateway.datagram(
    source.now,
    CLIENT,
    { address: GATEWAY, port: 5351 },
    request,
  )
  bench.deliver(answer!)
  bench.deliver(answer!, { address: '192.168.1.66', port: 5351 })
  // NAT-PMP's, without a question.
  bench.deliver(Buffer.from('00810000000000ff05230523000e1000', 'hex'))
  bench.run(4 * SECOND)
  assert.deepEqual(bench.news(), ['unavailable'])
})

test('closing while the router is asked leaves nothing behind', () => {
  for (const after of [0, 500, 1_500, 2_500, 4_500, 1_752_000, 1_760_000]) {
    for (const options of [everything, { natPmp: true }, { upnp: 1 }] as const) {
      const bench = new Bench(options)
      bench.mapper.open(bench.now)
      bench.run(after)
      bench.mapper.close(bench.now)
      bench.run(4 * SECOND)
      assert.equal(bench.news().at(-1), 'removed')
      assert.equal(bench.mapper.pollTimeout(), undefined)
      assert.equal(bench.gateway.held.size, 0, `${JSON.stringify(options)} after ${after} µs`)
    }
  }
})

test('closing against a silent router ends within 3 seconds', () => {
  for (const options of [everything, { natPmp: true }, { upnp: 1 }] as const) {
    const bench = opened(options)
    bench.news()
    bench.gateway.isOn = false
    bench.mapper.close(bench.now)
    bench.run(3 * SECOND)
    assert.deepEqual(bench.news(), ['removed'])
  }
})
