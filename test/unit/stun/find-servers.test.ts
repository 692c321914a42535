import assert from 'node:assert/strict'
import { test } from 'node:test'
import { findServers, type StunResolver } from '../../../src/stun/index.ts'

/** A name server with these records, and no others. */
function resolver(
  services: Readonly<Record<string, string>>,
  addresses: Readonly<Record<string, readonly string[]>>,
): StunResolver {
  return {
    resolveSrv: (name) => {
      const found = services[name]
      if (found === undefined) return Promise.reject(new Error('ENOTFOUND'))
      return Promise.resolve([{ name: found, port: 3479, priority: 0, weight: 0 }])
    },
    lookup: (name) => {
      const found = addresses[name]
      if (found === undefined) return Promise.reject(new Error('ENOTFOUND'))
      return Promise.resolve(found.map((address) => ({ address })))
    },
  }
}

const hosts = {
  'example.org': ['192.0.2.1', '2001:db8::1'],
  'behaviour.example.org': ['192.0.2.2', '192.0.2.3', '2001:db8::2'],
}

test('RFC 5780’s own service comes before plain STUN, and that before the name itself', async () => {
  const both = {
    '_stun-behavior._udp.example.org': 'behaviour.example.org',
    '_stun._udp.example.org': 'example.org',
  }
  assert.deepEqual(await findServers(['stun:example.org'], { resolver: resolver(both, hosts) }), {
    servers: [{ address: '192.0.2.2', port: 3479 }],
    spare: [{ address: '192.0.2.3', port: 3479 }],
  })
  const plain = { '_stun._udp.example.org': 'example.org' }
  assert.deepEqual(await findServers(['stun:example.org'], { family: 6, resolver: resolver(plain, hosts) }), {
    servers: [{ address: '2001:db8::1', port: 3479 }],
    spare: [],
  })
  assert.deepEqual(await findServers(['stun:example.org'], { resolver: resolver({}, hosts) }), {
    servers: [{ address: '192.0.2.1', port: 3478 }],
    spare: [],
  })
})

test('one server that cannot be found leaves the others; none at all is an error', async () => {
  const at = resolver({}, hosts)
  const found = await findServers(['stun:nowhere.example', 'stun:192.0.2.9:5000'], { resolver: at })
  assert.deepEqual(found.servers, [{ address: '192.0.2.9', port: 5000 }])
  await assert.rejects(findServers(['stun:nowhere.example'], { resolver: at }), {
    code: 'ERR_NATWORK_STUN_DNS',
  })
  await assert.rejects(findServers(['stun:192.0.2.9'], { family: 6, resolver: at }), {
    code: 'ERR_NATWORK_STUN_CONFIG',
  })
  await assert.rejects(findServers([]), { code: 'ERR_NATWORK_STUN_CONFIG' })
  await assert.rejects(findServers(['stuns:example.org']), { code: 'ERR_NATWORK_STUN_CONFIG' })
})

test('a machine without IPv4 reaches IPv4 servers through NAT64', async () => {
  const nat64 = { prefix: '64:ff9b::', length: 96 } as const
  const found = await findServers(['stun:192.0.2.1'], { nat64 })
  assert.deepEqual(found.servers, [{ address: '64:ff9b::c000:201', port: 3478 }])
})
