import assert from 'node:assert/strict'
import { createPrivateKey, createPublicKey, generateKeyPairSync, X509Certificate } from 'node:crypto'
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { createIdentity, generatePrivateKey, loadOrCreatePrivateKey } from '../../../src/network/identity.ts'
import { nodeIdOf, parseNodeId } from '../../../src/network/node-id.ts'

async function folder(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'natwork-key-'))
  t.after(() => rm(path, { recursive: true }))
  return path
}

test('the id is multibase base32 of SHA-256 of the SPKI', () => {
  // The key of RFC 8410 §10.3. The id by other means:
  // openssl pkey -pubout -outform DER | openssl dgst -sha256 -binary | base32 | tr A-Z a-z
  const pem = `-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
-----END PRIVATE KEY-----`
  const id = nodeIdOf(createPublicKey(createPrivateKey(pem)))
  assert.equal(id, 'buhurkycu4bh2zcm25hzhkezm3qd2lw6e5iwcvu5b77dobustnapq')
})

test('a key file is made once, for its owner only, and read again', async (t) => {
  const file = join(await folder(t), 'deep', 'key.pem')
  const key = await loadOrCreatePrivateKey(file)
  assert.equal((await stat(file)).mode & 0o777, 0o600)
  assert.match(await readFile(file, 'utf8'), /^-----BEGIN PRIVATE KEY-----/)
  assert.equal(nodeIdOf(await loadOrCreatePrivateKey(file)), nodeIdOf(key))
  assert.deepEqual(await readdir(join(file, '..')), ['key.pem'])
})

test('many who make the same key file at once all get the same key', async (t) => {
  const file = join(await folder(t), 'key.pem')
  const keys = await Promise.all(Array.from({ length: 20 }, () => loadOrCreatePrivateKey(file)))
  assert.equal(new Set(keys.map(nodeIdOf)).size, 1)
  assert.deepEqual(await readdir(join(file, '..')), ['key.pem'])
})

test('a key file that others can read is refused with the line that mends it', async (t) => {
  const file = join(await folder(t), "the key's file.pem")
  await loadOrCreatePrivateKey(file)
  await chmod(file, 0o640)
  await assert.rejects(loadOrCreatePrivateKey(file), {
    name: 'UsageError',
    code: 'ERR_NATWORK_KEY',
    message: new RegExp(`chmod 600 '.*the key'\\\\''s file\\.pem'`),
  })
})

test('files that hold no Ed25519 key are refused and stay as they are', async (t) => {
  const path = await folder(t)
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
  for (const [name, content] of [
    ['empty.pem', ''],
    ['text.pem', 'hello'],
    ['ec.pem', ec.export({ type: 'pkcs8', format: 'pem' })],
  ] as const) {
    const file = join(path, name)
    await writeFile(file, content, { mode: 0o600 })
    await assert.rejects(loadOrCreatePrivateKey(file), { name: 'UsageError', code: 'ERR_NATWORK_KEY' })
    assert.equal(await readFile(file, 'utf8'), content)
  }
})

test('a folder that cannot be written is a system error that names the file', async (t) => {
  const blocker = join(await folder(t), 'file')
  await writeFile(blocker, '')
  await assert.rejects(loadOrCreatePrivateKey(join(blocker, 'key.pem')), {
    name: 'SystemError',
    code: 'ERR_NATWORK_KEY',
    message: /key\.pem/,
  })
})

test('the certificate carries the key, signs itself, and is valid under any clock', async () => {
  const identity = await createIdentity(generatePrivateKey())
  const certificate = new X509Certificate(identity.certificate)
  assert.equal(nodeIdOf(certificate.publicKey), identity.id)
  assert.ok(certificate.verify(certificate.publicKey))
  assert.ok(new Date(certificate.validFrom) <= new Date('2000-01-01'))
  assert.ok(new Date(certificate.validTo) >= new Date('9999-01-01'))
})

test('other keys make no identity', async () => {
  const { privateKey } = generateKeyPairSync('x25519')
  await assert.rejects(createIdentity(privateKey), { code: 'ERR_NATWORK_KEY' })
})

test('a mistyped id is told what is wrong with it', () => {
  const id = nodeIdOf(generatePrivateKey())
  assert.equal(parseNodeId(id), id)
  for (const [text, why] of [
    ['', /must begin with "b"/],
    [id.slice(1), /must begin with "b"|characters/],
    [id.toUpperCase(), /must begin/],
    [id.slice(0, -1), /52 characters instead of 53/],
    [`${id}a`, /54 characters instead of 53/],
    [`${id.slice(0, 10)}1${id.slice(11)}`, /character 11, "1"/],
    [`${id.slice(0, -1)}b`, /mistyped/],
    [` ${id}`, /must begin/],
  ] as const) {
    assert.throws(() => parseNodeId(text), { code: 'ERR_NATWORK_NODE_ID', message: why }, text)
  }
})
