import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  randomBytes,
  type KeyObject,
} from 'node:crypto'
import { link, mkdir, open, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { SystemError, UsageError } from '../core/errors.ts'
import { createCertificate } from './certificate.ts'
import { errno } from './errors.ts'
import { nodeIdOf, type NodeId } from './node-id.ts'
import { deriveSealKey, type SealKey } from './seal-key.ts'

/** What a node proves itself with. The certificate only carries the key through TLS: it is made anew at each start. */
export interface Identity {
  readonly id: NodeId
  readonly privateKey: KeyObject
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Buffer
  /** PEM, self-signed. */
  readonly certificate: string
  /** Derived from the private key. */
  readonly sealKey: SealKey
}

/** @throws {UsageError} `ERR_NATWORK_KEY` when the key is not a private Ed25519 key. */
export async function createIdentity(privateKey: KeyObject): Promise<Identity> {
  assertEd25519(privateKey, 'the private key')
  const publicKey = createPublicKey(privateKey)
  return {
    id: nodeIdOf(publicKey),
    privateKey,
    publicKey: publicKey.export({ type: 'spki', format: 'der' }),
    certificate: await createCertificate(privateKey),
    sealKey: deriveSealKey(privateKey),
  }
}

export function generatePrivateKey(): KeyObject {
  return generateKeyPairSync('ed25519').privateKey
}

/**
 * The node's key from `file` (PKCS #8 PEM), made there on first use with mode 0600. Two processes that start at once
 * end up with the same key, and a crash never leaves half a file.
 *
 * @throws {SystemError} `ERR_NATWORK_KEY` when the file cannot be read or written.
 * @throws {UsageError} `ERR_NATWORK_KEY` when others can read it, or it holds no Ed25519 key.
 */
export async function loadOrCreatePrivateKey(file: string): Promise<KeyObject> {
  try {
    return (await readKey(file)) ?? (await createKey(file))
  } catch (error) {
    if (error instanceof UsageError) throw error
    throw new SystemError('ERR_NATWORK_KEY', `cannot use the key file ${file}: ${String(error)}`, {
      cause: error,
    })
  }
}

async function readKey(file: string): Promise<KeyObject | undefined> {
  const handle = await open(file, 'r').catch((error: unknown) => {
    if (errno(error) === 'ENOENT') return undefined
    throw error
  })
  if (handle === undefined) return undefined
  try {
    const { mode } = await handle.stat()
    // Windows has no such bits: there the user's profile folder protects the file.
    if (process.platform !== 'win32' && (mode & 0o077) !== 0) {
      throw new UsageError(
        'ERR_NATWORK_KEY',
        `other users can read the key file ${file}; if nobody has, run: chmod 600 ${shellQuote(file)}`,
      )
    }
    return parseKey(await handle.readFile('utf8'), file)
  } finally {
    await handle.close()
  }
}

function parseKey(pem: string, file: string): KeyObject {
  let key: KeyObject
  try {
    key = createPrivateKey(pem)
  } catch (error) {
    throw new UsageError(
      'ERR_NATWORK_KEY',
      `${file} holds no private key in PEM; move it away and a new node id is made at the next start`,
      { cause: error },
    )
  }
  assertEd25519(key, file)
  return key
}

// Written in full beside its place, then linked: link(2) fails where rename(2) would replace another process's key.
async function createKey(file: string): Promise<KeyObject> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 })
  const key = generatePrivateKey()
  const temporary = `${file}.${randomBytes(6).toString('hex')}`
  const handle = await open(temporary, 'wx', 0o600)
  try {
    try {
      await handle.writeFile(key.export({ type: 'pkcs8', format: 'pem' }))
      await handle.sync()
    } finally {
      await handle.close()
    }
    await link(temporary, file)
    return key
  } catch (error) {
    const other = errno(error) === 'EEXIST' ? await readKey(file) : undefined
    if (other === undefined) throw error
    return other
  } finally {
    await unlink(temporary)
  }
}

function assertEd25519(key: KeyObject, name: string): void {
  if (key.type !== 'private' || key.asymmetricKeyType !== 'ed25519') {
    throw new UsageError(
      'ERR_NATWORK_KEY',
      `${name} is ${key.asymmetricKeyType ?? 'a secret'} (${key.type}), not a private Ed25519 key; make one with: openssl genpkey -algorithm ed25519`,
    )
  }
}

function shellQuote(text: string): string {
  return /^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}
