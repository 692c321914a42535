import type { Duplex } from 'node:stream'
import { connect, createSecureContext, TLSSocket, type SecureContext } from 'node:tls'
import { NatworkError, PeerError } from '../core/errors.ts'
import { Scope } from './deadline.ts'
import { UtpStream } from '../utp/driver/index.ts'
import type { Identity } from './identity.ts'
import { nodeIdOf, type NodeId } from './node-id.ts'
import { AuthenticEnd, SecureStream } from './secure-stream.ts'

/** Names the protocol inside TLS (RFC 7301). A peer that speaks anything else never gets past the handshake. */
export const alpn = 'natwork/1'

export interface HandshakeOptions {
  /** Milliseconds for the whole handshake. */
  readonly timeout: number
  readonly signal?: AbortSignal | undefined
}

/**
 * Mutual TLS 1.3 over any byte stream. Resolves when both certificates are known; the peer's key, and with it its id,
 * is proved then. The raw stream belongs to the handshake from here on and is destroyed when it fails.
 *
 * @throws {PeerError} `ERR_NATWORK_HANDSHAKE`, `ERR_NATWORK_IDENTITY`, `ERR_NATWORK_TIMEOUT`, or the raw stream's own.
 * @throws the signal's reason when it aborts.
 */
export async function handshake(
  raw: Duplex,
  role: 'client' | 'server',
  identity: Identity,
  options: HandshakeOptions,
): Promise<SecureStream> {
  // TLSSocket copies what comes, and what it writes is a copy of its own.
  if (raw instanceof UtpStream) raw.passBuffers()
  const end = new AuthenticEnd(raw)
  const tls = startTls(raw, role, identity)
  end.watch(tls)
  try {
    await secured(tls, raw, role, options)
    return new SecureStream(raw, tls, end, peerOf(tls))
  } catch (error) {
    raw.on('error', ignore)
    tls.on('error', ignore)
    raw.destroy()
    tls.destroy()
    throw error
  }
}

/** TLS as natwork speaks it, begun on a byte stream: see {@link secured}. */
export function startTls(raw: Duplex, role: 'client' | 'server', identity: Identity): TLSSocket {
  return role === 'client' ? startClient(raw, identity) : startServer(raw, identity)
}

function startClient(raw: Duplex, identity: Identity): TLSSocket {
  return connect({
    socket: raw,
    secureContext: contextOf(identity),
    ALPNProtocols: [alpn],
    minVersion: 'TLSv1.3',
    // The certificate's names and issuer mean nothing here: peerOf checks the key itself.
    rejectUnauthorized: false,
    checkServerIdentity: () => undefined,
  })
}

function startServer(raw: Duplex, identity: Identity): TLSSocket {
  return new TLSSocket(raw, {
    isServer: true,
    secureContext: contextOf(identity),
    ALPNProtocols: [alpn],
    requestCert: true,
    rejectUnauthorized: false,
  })
}

const contexts = new WeakMap<Identity, SecureContext>()

function contextOf(identity: Identity): SecureContext {
  let context = contexts.get(identity)
  if (context === undefined) {
    context = createSecureContext({
      key: identity.privateKey.export({ type: 'pkcs8', format: 'pem' }),
      cert: identity.certificate,
      minVersion: 'TLSv1.3',
      maxVersion: 'TLSv1.3',
      sigalgs: 'ed25519',
    })
    contexts.set(identity, context)
  }
  return context
}

/** Resolves when both certificates are known. @throws as {@link handshake} */
export async function secured(
  tls: TLSSocket,
  raw: Duplex,
  role: 'client' | 'server',
  { timeout, signal }: HandshakeOptions,
): Promise<void> {
  const scope = new Scope(timeout, [signal], () => {
    return new PeerError('ERR_NATWORK_TIMEOUT', `no TLS handshake within ${timeout} ms`)
  })
  try {
    await scope.run(
      new Promise<void>((resolve, reject) => {
        const fail = (error: Error): void =>
          reject(
            error instanceof NatworkError
              ? error
              : new PeerError('ERR_NATWORK_HANDSHAKE', `the TLS handshake failed: ${error.message}`, {
                  cause: error,
                }),
          )
        tls.once(role === 'client' ? 'secureConnect' : 'secure', resolve)
        tls.once('error', fail)
        raw.once('error', fail)
        raw.once('close', () => fail(new Error('the connection closed')))
        raw.once('end', () => fail(new Error('the connection ended')))
      }),
    )
  } finally {
    scope.close()
  }
  if (tls.alpnProtocol !== alpn) {
    throw new PeerError('ERR_NATWORK_HANDSHAKE', `the peer does not speak ${alpn}`)
  }
}

// TLS 1.3 has checked that the peer holds this key (CertificateVerify, RFC 8446 §4.4.3), whoever signed the certificate.
export function peerOf(tls: TLSSocket): NodeId {
  const certificate = tls.getPeerX509Certificate()
  if (certificate?.publicKey.asymmetricKeyType !== 'ed25519') {
    throw new PeerError(
      'ERR_NATWORK_IDENTITY',
      'the peer proved no identity: expected an Ed25519 certificate',
    )
  }
  return nodeIdOf(certificate.publicKey)
}

function ignore(): void {
  // An error after the first one tells nothing more.
}
