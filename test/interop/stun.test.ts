import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'node:test'
import { StunPeerError } from '../../src/stun/errors.ts'
import { LongTermAuth } from '../../src/stun/credentials/client.ts'
import { getMappedAddress, type MappedAddressOptions } from '../../src/stun/driver/mapped-address.ts'
import { StunService } from '../../src/stun/driver/service.ts'
import { certificate, coturn, freePorts, missing, output, stop } from './stun-peers.ts'

// Everything runs on 127.0.0.1 and 127.0.0.2: the two addresses that RFC 5780 wants. About 10 seconds.

const clients = missing('stun', 'turnutils_stunclient', 'turnutils_natdiscovery')
const servers = missing('turnserver')

async function withService(use: (port: number) => Promise<void>): Promise<void> {
  const port = await freePorts()
  const service = await StunService.listen({
    host: '127.0.0.1',
    port,
    alternate: { host: '127.0.0.2', port: port + 1 },
    software: 'natwork',
  })
  try {
    await use(port)
  } finally {
    await service.close()
  }
}

test(
  'coturn’s turnutils_stunclient gets its three answers, RESPONSE-PORT among them',
  { skip: clients },
  () =>
    withService(async (port) => {
      const { text, code } = await output('turnutils_stunclient', ['-f', '-p', `${port}`, '127.0.0.1'])
      assert.equal(code, 0, text)
      assert.match(text, new RegExp(`response 1\\n[^]*origin: : 127\\.0\\.0\\.1:${port}\\n`))
      assert.match(text, new RegExp(`response 2\\n[^]*origin: : 127\\.0\\.0\\.2:${port + 1}\\n`))
      assert.match(text, /response 3\n[^]*UDP reflexive addr: 127\.0\.0\.1:/)
    }),
)

test('coturn’s turnutils_natdiscovery finds no NAT', { skip: clients }, () =>
  withService(async (port) => {
    const { text, code } = await output('turnutils_natdiscovery', [
      ...['-m', '-f', '-P'],
      ...['-L', '127.0.0.1', '-p', `${port}`, '127.0.0.1'],
    ])
    assert.equal(code, 0, text)
    assert.match(text, /No NAT! \(Endpoint Independent Mapping\)/)
    assert.match(text, /NAT with Endpoint Independent Mapping!/)
    assert.match(text, /NAT with Endpoint Independent Filtering!/)
    assert.match(text, /No ALG: Mapped == XOR-Mapped/)
    assert.doesNotMatch(text, /timeout/)
  }),
)

test('Debian’s stun, a client of RFC 3489, says "Open"', { skip: clients }, () =>
  withService(async (port) => {
    const { text } = await output('stun', [`127.0.0.1:${port}`])
    assert.match(text, /Primary: Open/)
  }),
)

/** coturn may still be starting: asks until it answers. */
async function untilAnswered(
  uri: string,
  options: MappedAddressOptions,
): ReturnType<typeof getMappedAddress> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await getMappedAddress(uri, {
        timing: { rto: 100_000, rc: 4, rm: 4, ti: 3_000_000 },
        ...options,
      })
    } catch (error) {
      const { code } = error as { code?: string }
      const starting = code === 'ERR_NATWORK_STUN_TIMEOUT' || code === 'ERR_NATWORK_STUN_CONNECTION'
      if (!starting || attempt === 100) throw error
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
}

test('coturn’s server answers us over UDP, TCP and TLS', { skip: servers }, async () => {
  const port = await freePorts()
  const folder = mkdtempSync(join(tmpdir(), 'natwork-stun-'))
  const { cert, key } = await certificate()
  writeFileSync(join(folder, 'cert.pem'), cert)
  writeFileSync(join(folder, 'key.pem'), key, { mode: 0o600 })
  const server = coturn([
    ...['--stun-only', '--listening-ip', '127.0.0.1', '--listening-port', `${port}`],
    ...['--tls-listening-port', `${port + 1}`, '--no-dtls'],
    ...['--cert', join(folder, 'cert.pem'), '--pkey', join(folder, 'key.pem')],
  ])
  try {
    for (const transport of ['udp', 'tcp'] as const) {
      const found = await untilAnswered(`stun:127.0.0.1:${port}`, { transport })
      assert.equal(found.transport, transport)
      assert.equal(found.mappedAddress.address, '127.0.0.1')
      assert.equal(found.mappedAddress.port, found.localAddress.port)
      assert.deepEqual(found.server, { address: '127.0.0.1', port })
    }
    const found = await untilAnswered(`stuns:localhost:${port + 1}`, { ca: cert })
    assert.equal(found.transport, 'tls')
    assert.deepEqual(found.mappedAddress, found.localAddress)
    await assert.rejects(getMappedAddress(`stuns:localhost:${port + 1}`), (error) => {
      assert.ok(error instanceof StunPeerError)
      assert.equal(error.code, 'ERR_NATWORK_STUN_CONNECTION')
      return true
    })
  } finally {
    await stop(server)
    rmSync(folder, { recursive: true })
  }
})

test(
  'coturn’s server with long-term credentials lets us in, and nobody with a wrong password',
  { skip: servers },
  async () => {
    const port = await freePorts()
    const server = coturn([
      ...[
        '--stun-only',
        '--secure-stun',
        '--lt-cred-mech',
        '--realm',
        'example.org',
        '--user',
        'alice:wonderland',
      ],
      ...['--listening-ip', '127.0.0.1', '--listening-port', `${port}`, '--no-tls', '--no-dtls'],
    ])
    try {
      const uri = `stun:127.0.0.1:${port}`
      const found = await untilAnswered(uri, { auth: new LongTermAuth('alice', 'wonderland') })
      assert.equal(found.mappedAddress.port, found.localAddress.port)
      const unauthenticated = { code: 'ERR_NATWORK_STUN_RESPONSE', status: 401 }
      await assert.rejects(
        getMappedAddress(uri, { auth: new LongTermAuth('alice', 'queen') }),
        unauthenticated,
      )
      await assert.rejects(getMappedAddress(uri), unauthenticated)
    } finally {
      await stop(server)
    }
  },
)
