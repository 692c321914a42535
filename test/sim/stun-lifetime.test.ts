// 2 s. How long a NAT keeps an idle mapping is found out as each kind declares it, in virtual time.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { familyOf } from '../../src/core/address.ts'
import { SECOND } from '../../src/core/machine.ts'
import { kindNames, kinds, synthesize, World, type Host } from '../../src/sim/index.ts'
import {
  lifetimeLadder,
  probeLifetime,
  StunResponder,
  StunServer,
  type Finding,
  type Lifetime,
} from '../../src/stun/index.ts'

const IPS = { 4: '192.0.2.1', 6: '2001:db8:ffff::1' } as const
const LADDER = lifetimeLadder(400)

function serve(host: Host, family: 4 | 6, knowsResponsePort: boolean): void {
  const origins = { addresses: [IPS[family], '192.0.2.9'], ports: [3478, 3479] } as const
  const responder = new StunResponder({ rng: host.rng, ...(knowsResponsePort && { origins }) })
  host.bind({ address: IPS[family], port: 3478 }).attach(new StunServer(responder))
}

function probe(kind: (typeof kindNames)[number], family: 4 | 6, knowsResponsePort = true): Finding<Lifetime> {
  const world = new World({ seed: 3 })
  const server = world.publicHost('stun', { addresses: [IPS[4], IPS[6]] })
  serve(server, family, knowsResponsePort)
  const { client } = world.site('home', { kind })
  const is6Only = client.addresses.every((one) => familyOf(one) === 6)
  const address = is6Only && family === 4 ? synthesize(IPS[4]) : IPS[family]
  let found: Finding<Lifetime> | undefined
  probeLifetime(
    { knocking: client.bind({ port: 5_000 }), idle: LADDER.map((_, i) => client.bind({ port: 5_001 + i })) },
    { rng: client.rng, server: { address, port: 3478 }, times: LADDER },
    (lifetime) => {
      assert.equal(found, undefined, 'told once')
      found = lifetime
    },
  )
  assert.ok(world.run(() => found !== undefined, 420 * SECOND))
  return found!
}

for (const name of kindNames) {
  for (const family of kinds[name].families) {
    test(`${name}, IPv${family}`, () => {
      const { routers, behaviour } = kinds[name]
      const { value } = probe(name, family)
      // A static rule serves one socket: of the others nothing is seen.
      const isForwarded = routers.some(({ netfilter }) => netfilter?.source === 'snat')
      if (behaviour === undefined || isForwarded) {
        assert.equal(value === undefined || value.lessThan === undefined || value.atLeast === 0, true)
        return
      }
      const own = routers.length === 0 ? Infinity : Math.min(...routers.map((one) => one.behaviour.lifetime))
      // A port that is forwarded by hand is another one than these.
      const ofOthers = name === 'port-forward' ? 30 : own
      const declared = name === 'nat64' && family === 6 ? kinds.firewall6.behaviour!.lifetime : ofOthers
      assert.ok(value)
      assert.ok(value.atLeast <= declared, `${value.atLeast} s, declared ${declared}`)
      assert.ok(declared <= (value.lessThan ?? Infinity), `${value.lessThan} s, declared ${declared}`)
      if (declared < 400) assert.ok(value.lessThan! <= value.atLeast * 1.26 || value.atLeast === 0)
      else assert.equal(value.atLeast, 400)
    })
  }
}

test('a server without RESPONSE-PORT: said so', () => {
  const { value, observations } = probe('port-restricted', 4, false)
  assert.equal(value, undefined)
  assert.match(observations.join(), /RESPONSE-PORT/)
})

test('the ladder ends where it is told to, and has no gap larger than a quarter', () => {
  for (const longest of [5, 30, 120, 300]) {
    const times = lifetimeLadder(longest)
    assert.equal(times.at(-1), longest)
    assert.ok(times.length <= 24 && times[0]! >= 5)
    for (const [i, time] of times.entries()) if (i > 0) assert.ok(time / times[i - 1]! < 1.26)
  }
})
