import { createPublicKey, randomBytes, webcrypto, type KeyObject } from 'node:crypto'

const algorithm = { name: 'Ed25519' }

// Nobody checks these dates: the key itself is the identity, and a node with a wrong clock must still connect.
const notBefore = new Date('2000-01-01T00:00:00Z')
const notAfter = new Date('9999-12-31T23:59:59Z') // RFC 5280 §4.1.2.5: "no well-defined expiration date"

/** The smallest certificate that TLS accepts (RFC 5280 profile), PEM. It names nothing; only its key counts. */
export async function createCertificate(privateKey: KeyObject): Promise<string> {
  // Loaded when it is needed: a third of the start, and 20 MB, of commands that never make a certificate.
  await import('reflect-metadata')
  const { X509CertificateGenerator } = await import('@peculiar/x509')
  const { subtle } = webcrypto
  const pkcs8 = privateKey.export({ type: 'pkcs8', format: 'der' })
  const spki = createPublicKey(privateKey).export({ type: 'spki', format: 'der' })
  const certificate = await X509CertificateGenerator.create(
    {
      serialNumber: `01${randomBytes(8).toString('hex')}`,
      subject: 'CN=natwork',
      issuer: 'CN=natwork',
      notBefore,
      notAfter,
      signingAlgorithm: algorithm,
      publicKey: await subtle.importKey('spki', spki, algorithm, true, ['verify']),
      signingKey: await subtle.importKey('pkcs8', pkcs8, algorithm, false, ['sign']),
    },
    webcrypto,
  )
  return certificate.toString('pem')
}
