import { createPublicKey, randomBytes, sign, type KeyObject } from 'node:crypto'
import { promisify } from 'node:util'

// Tags of DER (X.690 §8).
const INTEGER = 0x02
const BIT_STRING = 0x03
const OBJECT_IDENTIFIER = 0x06
const UTF8_STRING = 0x0c
const UTC_TIME = 0x17
const GENERALIZED_TIME = 0x18
const SEQUENCE = 0x30
const SET = 0x31
const VERSION = 0xa0

/** RFC 8410 §3: id-Ed25519, 1.3.101.112; without parameters. */
const algorithm = der(SEQUENCE, der(OBJECT_IDENTIFIER, Buffer.of(0x2b, 0x65, 0x70)))
/** CN=natwork: one attribute, 2.5.4.3, of one relative name (RFC 5280 §4.1.2.4). */
const attribute = der(
  SEQUENCE,
  der(OBJECT_IDENTIFIER, Buffer.of(0x55, 0x04, 0x03)),
  der(UTF8_STRING, Buffer.from('natwork')),
)
const name = der(SEQUENCE, der(SET, attribute))
// Nobody checks these dates: the key itself is the identity, and a node with a wrong clock must still connect.
const validity = der(
  SEQUENCE,
  der(UTC_TIME, Buffer.from('000101000000Z')),
  // RFC 5280 §4.1.2.5: "no well-defined expiration date".
  der(GENERALIZED_TIME, Buffer.from('99991231235959Z')),
)

/**
 * The smallest certificate that TLS accepts (RFC 5280 §4.1), PEM. It names nothing; only its key counts. All but the key
 * is fixed: a library that makes any certificate costs 17 MB of memory in every node.
 */
export async function createCertificate(privateKey: KeyObject): Promise<string> {
  const content = der(
    SEQUENCE,
    der(VERSION, der(INTEGER, Buffer.of(2))),
    // The serial number: positive, and not the same twice.
    der(INTEGER, Buffer.of(1), randomBytes(8)),
    algorithm,
    name,
    validity,
    name,
    createPublicKey(privateKey).export({ type: 'spki', format: 'der' }),
  )
  const signature = await promisify(sign)(null, content, privateKey)
  // The byte in front: of the last one all bits count.
  const certificate = der(SEQUENCE, content, algorithm, der(BIT_STRING, Buffer.of(0), signature))
  const lines = certificate.toString('base64').replaceAll(/.{64}(?=.)/g, '$&\n')
  return `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`
}

/** X.690 §8.1 and §10.1: a tag, the length, and the contents, of which there are less than 64 KiB. */
function der(tag: number, ...contents: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(contents)
  const { length } = content
  const long = length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.of(tag, ...(length < 0x80 ? [length] : long)), content])
}
