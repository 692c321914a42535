import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import fc from 'fast-check'
import { format, resolveConfig } from 'prettier'
import {
  ALL_ABILITIES,
  BIRTHDAY,
  birthdayOdds,
  directPathPossible,
  isKindName,
  kindNames,
  kinds,
  oracleClasses,
  oracleRows,
  renderOracle,
  SIMPLE_PUNCH,
} from '../../../src/sim/index.ts'
import type { Ability, KindName } from '../../../src/sim/index.ts'

test('docs/oracle.md is what the code says: run `npm run docs:oracle`', async () => {
  const file = new URL('../../../docs/oracle.md', import.meta.url).pathname
  const page = await format(renderOracle(), { ...(await resolveConfig(file)), parser: 'markdown' })
  assert.equal(readFileSync(file, 'utf8'), page)
})

test('the classic cases', () => {
  const by = (a: KindName, b: KindName, ...abilities: Ability[]): string =>
    directPathPossible(a, b, abilities).by ?? 'no'
  assert.equal(by('dmz', 'dmz'), 'dial')
  assert.equal(by('symmetric', 'dmz'), 'dial')
  assert.equal(by('dmz', 'symmetric'), 'no')
  assert.equal(by('dmz', 'symmetric', 'punch'), 'punch')
  assert.equal(by('port-restricted', 'port-restricted'), 'no')
  assert.equal(by('port-restricted', 'port-restricted', 'punch'), 'punch')
  assert.equal(by('symmetric', 'port-restricted', 'punch'), 'no')
  assert.equal(by('symmetric', 'port-restricted', 'punch', 'birthday'), 'birthday')
  assert.equal(by('symmetric', 'symmetric', ...ALL_ABILITIES), 'no')
  assert.equal(by('symmetric-sequential', 'symmetric-sequential', 'punch', 'prediction'), 'prediction')
  assert.equal(by('symmetric-block', 'port-restricted', 'punch', 'exhaustive'), 'exhaustive')
  assert.equal(by('port-restricted', 'upnp', 'port-mapping'), 'port-mapping')
  assert.equal(by('port-restricted', 'upnp-behind-cgn', 'port-mapping'), 'no')
  assert.equal(by('firewall6', 'nat64', 'punch', 'ipv6'), 'punch')
  assert.equal(by('firewall6', 'nat64', 'punch'), 'no')
  assert.equal(by('port-restricted', 'nat64', 'punch', 'nat64'), 'punch')
  assert.equal(by('port-restricted', 'firewall6', ...ALL_ABILITIES), 'no')
  assert.equal(by('client-isolation', 'client-isolation', ...ALL_ABILITIES), 'no')
  assert.equal(by('client-isolation', 'no-hairpin', 'punch'), 'punch')
})

const kind = fc.constantFrom(...kindNames)
const abilities = fc.subarray([...ALL_ABILITIES])

test('one more ability never closes a path, and who can punch may be either side', () => {
  fc.assert(
    fc.property(kind, kind, abilities, fc.constantFrom(...ALL_ABILITIES), (a, b, some, more) => {
      const before = directPathPossible(a, b, some)
      if (before.possible) assert.ok(directPathPossible(a, b, [...some, more]).possible)
      const both: Ability[] = [...some, 'punch']
      assert.equal(directPathPossible(a, b, both).possible, directPathPossible(b, a, both).possible)
      assert.equal(before.possible, before.by !== undefined)
      assert.match(before.source, /RFC \d{4}/)
    }),
    { numRuns: 3000 },
  )
})

test('every row of the theory is used by some pair', () => {
  const used = new Set<string>()
  const sets: Ability[][] = [[], ...ALL_ABILITIES.map((one): Ability[] => [...SIMPLE_PUNCH, one])]
  sets.push([...ALL_ABILITIES], ['port-mapping', ...SIMPLE_PUNCH], ['port-mapping'], ['host-candidates'])
  sets.push([...SIMPLE_PUNCH, 'birthday', 'exhaustive'])
  for (const set of sets) {
    for (const a of kindNames) {
      for (const b of kindNames) used.add(directPathPossible(a, b, set).reason)
    }
  }
  for (const row of oracleRows) assert.ok(used.has(row.reason), row.when)
})

test('the odds of a birthday attack', () => {
  assert.equal(birthdayOdds(1, 10, 10), 1)
  assert.equal(birthdayOdds(0, 10, 10), 0)
  assert.ok(Math.abs(birthdayOdds(1, 1, 64_512) - 1 / 64_512) < 1e-12)
  const odds = birthdayOdds(BIRTHDAY.sockets, BIRTHDAY.probes, 64_512)
  assert.ok(odds > 0.98 && odds < 0.99, String(odds))
})

test('every kind is declared, in one class, and says what it is in one sentence', () => {
  assert.equal(new Set(kindNames).size, kindNames.length)
  assert.deepEqual([...oracleClasses().values()].flat().sort(), [...kindNames].sort())
  for (const name of kindNames) {
    assert.equal(kinds[name].name, name)
    assert.match(kinds[name].summary, /^(nft `|[A-Z]).*\.$/)
  }
  assert.ok(isKindName('symmetric') && !isKindName('toString'))
})
