// 1 s. How a relay is found and reached: URIs, DNS (RFC 5928), HTTP proxies.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { NaptrRecord } from 'node:dns'
import { SimRng } from '../../../src/sim/rng.ts'
import {
  formatTurnUri,
  parseTurnUri,
  resolveTurn,
  type ResolveOptions,
  type TurnTransport,
} from '../../../src/turn/index.ts'
import { parseProxy, proxyFor } from '../../../src/turn/driver/client/proxy.ts'

describe('turn: and turns: URIs (RFC 7065)', () => {
  for (const [text, uri] of [
    ['turn:example.org', { scheme: 'turn', host: 'example.org', port: undefined, transport: undefined }],
    ['turns:example.org', { scheme: 'turns', host: 'example.org', port: undefined, transport: undefined }],
    [
      'turn:192.0.2.1:8000?transport=udp',
      { scheme: 'turn', host: '192.0.2.1', port: 8000, transport: 'udp' },
    ],
    ['turn:[2001:db8::1]:8000', { scheme: 'turn', host: '2001:db8::1', port: 8000, transport: undefined }],
    [
      'turns:example.org:443?transport=tcp',
      { scheme: 'turns', host: 'example.org', port: 443, transport: 'tcp' },
    ],
  ] as const) {
    test(text, () => {
      assert.deepEqual(parseTurnUri(text), uri)
      assert.equal(formatTurnUri(parseTurnUri(text)), text)
    })
  }

  for (const text of [
    'example.org',
    'stun:example.org',
    'turn://example.org',
    'turn:user@example.org',
    'turn:example.org:0',
    'turn:example.org:65536',
    'turn:[192.0.2.1]',
    'turn:2001:db8::1',
    'turn:example.org?transport=sctp',
    'turns:example.org?transport=udp',
    'turn:',
  ]) {
    test(`${text} is none that can be used, and the error says what to write`, () => {
      assert.throws(() => parseTurnUri(text), { code: 'ERR_NATWORK_TURN_URI' })
    })
  }
})

/** The zone of the examples in RFC 5928 §4. */
const zone = {
  naptr: new Map<string, NaptrRecord[]>([
    ['example.com', [naptr(100, 10, '', 'RELAY:turn.udp', 'datagram.example.com')]],
    [
      'datagram.example.com',
      [
        naptr(100, 10, 's', 'RELAY:turn.udp', '_udp.a.example.com'),
        naptr(50, 10, 's', 'SIP+D2U', 'x.example.com'),
      ],
    ],
    [
      'ranked.example.com',
      [
        naptr(200, 10, 'a', 'RELAY:turn.tls', 'secure.example.com'),
        naptr(100, 20, 'a', 'RELAY:turn.tcp:turn.udp', 'plain.example.com'),
      ],
    ],
    ['loop.example.com', [naptr(1, 1, '', 'RELAY:turn.udp', 'loop.example.com')]],
  ]),
  srv: new Map([
    ['_udp.a.example.com', [srv('a.example.com', 5000)]],
    ['_turn._udp.example.org', [srv('a.example.com', 4000, 20), srv('b.example.com', 4001, 10)]],
    ['_turns._tcp.example.org', [srv('secure.example.com', 443)]],
  ]),
  addresses: new Map([
    ['a.example.com', ['192.0.2.1', '2001:db8::1']],
    ['b.example.com', ['192.0.2.2']],
    ['plain.example.com', ['192.0.2.3']],
    ['secure.example.com', ['192.0.2.4']],
    ['example.org', ['192.0.2.5']],
  ]),
}

function naptr(
  order: number,
  preference: number,
  flags: string,
  service: string,
  replacement: string,
): NaptrRecord {
  return { order, preference, flags, service, regexp: '', replacement }
}

function srv(
  name: string,
  port: number,
  priority = 0,
): { name: string; port: number; priority: number; weight: number } {
  return { name, port, priority, weight: 0 }
}

const found = <T>(records: T[] | undefined): Promise<T[]> =>
  records === undefined ? Promise.reject(new Error('ENOTFOUND')) : Promise.resolve(records)
const resolver = {
  resolveNaptr: (name: string) => found(zone.naptr.get(name)),
  resolveSrv: (name: string) => found(zone.srv.get(name)),
  lookup: (name: string) => found(zone.addresses.get(name)?.map((address) => ({ address }))),
}

async function ways(uri: string, options: Partial<ResolveOptions> = {}): Promise<string[]> {
  const transports: readonly TurnTransport[] = ['udp', 'tcp', 'tls']
  const targets = await resolveTurn(parseTurnUri(uri), {
    transports,
    resolver,
    rng: new SimRng(1),
    ...options,
  })
  return targets.map(({ transport, port, addresses, host }) =>
    [transport, host, port, ...addresses.map(({ address }) => address)].join(' '),
  )
}

describe('RFC 5928', () => {
  for (const [uri, expected] of [
    ['turn:192.0.2.9', ['udp 192.0.2.9 3478 192.0.2.9', 'tcp 192.0.2.9 3478 192.0.2.9']],
    ['turn:[2001:db8::9]:99?transport=tcp', ['tcp 2001:db8::9 99 2001:db8::9']],
    ['turns:192.0.2.9', ['tls 192.0.2.9 5349 192.0.2.9']],
    ['turn:a.example.com:99?transport=udp', ['udp a.example.com 99 2001:db8::1 192.0.2.1']],
    // SRV, the lowest priority first.
    [
      'turn:example.org?transport=udp',
      ['udp b.example.com 4001 192.0.2.2', 'udp a.example.com 4000 2001:db8::1 192.0.2.1'],
    ],
    // No NAPTR: SRV for each transport, else the name itself.
    [
      'turn:example.org',
      [
        'udp b.example.com 4001 192.0.2.2',
        'udp a.example.com 4000 2001:db8::1 192.0.2.1',
        'tcp example.org 3478 192.0.2.5',
      ],
    ],
    ['turns:example.org', ['tls secure.example.com 443 192.0.2.4']],
    // NAPTR, to another NAPTR, to SRV; what is not RELAY is not followed.
    ['turn:example.com', ['udp a.example.com 5000 2001:db8::1 192.0.2.1']],
    // NAPTR's own order; of one record's transports our preferred one; turns only for turns.
    ['turn:ranked.example.com', ['udp plain.example.com 3478 192.0.2.3']],
    ['turns:ranked.example.com', ['tls secure.example.com 5349 192.0.2.4']],
  ] as const) {
    test(`${uri}: ${expected.join(', ')}`, async () => assert.deepEqual(await ways(uri), expected))
  }

  test('names that lead nowhere, or in a circle, end in an error that says so', async () => {
    for (const uri of ['turn:nowhere.example.com', 'turn:loop.example.com']) {
      await assert.rejects(ways(uri), { code: 'ERR_NATWORK_TURN_DNS' })
    }
    await assert.rejects(ways('turn:b.example.com:1?transport=udp', { udpFamilies: [6] }), /no IPv6 address/)
  })

  test('a URI that none of our transports fits is a mistake of configuration', async () => {
    await assert.rejects(ways('turns:example.org', { transports: ['udp'] }), {
      code: 'ERR_NATWORK_TURN_CONFIG',
    })
  })

  test('what a proxy reaches is not looked up', async () => {
    const isProxied = (transport: TurnTransport): boolean => transport !== 'udp'
    assert.deepEqual(await ways('turns:inside.example:443', { isProxied }), ['tls inside.example 443'])
  })
})

describe('HTTP proxies from the environment', () => {
  const env = { HTTPS_PROXY: 'http://proxy.example:3128' }
  for (const [name, environment, host, expected] of [
    ['none', {}, 'relay.example', undefined],
    ['HTTPS_PROXY', env, 'relay.example', 'proxy.example'],
    ['small letters', { https_proxy: 'proxy.example:1' }, 'relay.example', 'proxy.example'],
    ['ALL_PROXY', { ALL_PROXY: 'http://all.example' }, 'relay.example', 'all.example'],
    ['HTTP_PROXY', { HTTP_PROXY: 'http://plain.example' }, 'relay.example', 'plain.example'],
    ['NO_PROXY with the name', { ...env, NO_PROXY: 'a.example, relay.example' }, 'relay.example', undefined],
    ['NO_PROXY with the domain', { ...env, NO_PROXY: '.example' }, 'relay.example', undefined],
    [
      'NO_PROXY with a part of the name',
      { ...env, NO_PROXY: 'lay.example' },
      'relay.example',
      'proxy.example',
    ],
    ['NO_PROXY with the port', { ...env, NO_PROXY: 'relay.example:443' }, 'relay.example', undefined],
    [
      'NO_PROXY with another port',
      { ...env, NO_PROXY: 'relay.example:80' },
      'relay.example',
      'proxy.example',
    ],
    ['NO_PROXY with a block', { ...env, NO_PROXY: '10.0.0.0/8' }, '10.1.2.3', undefined],
    ['NO_PROXY with an address', { ...env, NO_PROXY: '2001:db8::1' }, '2001:db8::1', undefined],
    [
      'NO_PROXY with an address and the port',
      { ...env, no_proxy: '[2001:db8::1]:443' },
      '2001:db8::1',
      undefined,
    ],
    ['NO_PROXY=*', { ...env, NO_PROXY: '*' }, 'relay.example', undefined],
    ['this machine', env, '127.0.0.1', undefined],
    ['what is no proxy', { HTTPS_PROXY: 'socks5://proxy.example' }, 'relay.example', undefined],
    ['what is no URL', { HTTPS_PROXY: 'http://' }, 'relay.example', undefined],
  ] as const) {
    test(`${name}: ${expected ?? 'directly'}`, () => {
      assert.equal(proxyFor(environment, host, 443)?.host, expected)
    })
  }

  test('user, password, port and TLS', () => {
    assert.deepEqual(parseProxy('https://me:p%40ss@[2001:db8::2]'), {
      host: '2001:db8::2',
      port: 443,
      secure: true,
      authorization: `Basic ${Buffer.from('me:p@ss').toString('base64')}`,
    })
  })
})
