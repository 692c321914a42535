/**
 * Writes the seeds of the STUN fuzzers, one message per file, in hexadecimal: `node --import tsx
 * test/corpus/stun/generate.ts`. They are committed; run this after adding a kind of message.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { StunBuilder } from '../../../src/stun/codec/builder.ts'
import { Attribute, MessageClass, Method } from '../../../src/stun/codec/registry.ts'
import * as vectors from '../../unit/stun/vectors.ts'

const id = Buffer.from('000102030405060708090a0b', 'hex')
const key = Buffer.from('key')
const v4 = { address: '192.0.2.1', port: 3478 }
const v6 = { address: '2001:db8::1', port: 3479 }
const { Request, Indication, Success, Error } = MessageClass
const none = new Uint8Array(0)
const algorithms = [
  { algorithm: 2, parameters: none },
  { algorithm: 1, parameters: none },
]
const start = (method: number, messageClass: MessageClass): StunBuilder =>
  new StunBuilder().start(method, messageClass, id)

const seeds: Record<string, Uint8Array> = {
  'rfc5769-request': vectors.request,
  'rfc5769-response-ipv4': vectors.responseV4,
  'rfc5769-response-ipv6': vectors.responseV6,
  'rfc5769-long-term': vectors.longTermRequest,
  'rfc8489-sha256': vectors.sha256Request,
  'binding-bare': start(Method.Binding, Request).copy(),
  'binding-indication': start(Method.Binding, Indication).fingerprint().copy(),
  'binding-success': start(Method.Binding, Success)
    .xorAddress(Attribute.XorMappedAddress, v6)
    .address(Attribute.MappedAddress, v4)
    .address(Attribute.ResponseOrigin, v4)
    .address(Attribute.OtherAddress, v6)
    .text(Attribute.Software, 'natwork')
    .fingerprint()
    .copy(),
  'behaviour-request': start(Method.Binding, Request)
    .uint32(Attribute.ChangeRequest, 6)
    .uint16(Attribute.ResponsePort, 5000)
    .zeros(Attribute.Padding, 64)
    .copy(),
  challenge: start(Method.Binding, Error)
    .errorCode(401)
    .text(Attribute.Realm, 'example.org')
    .text(Attribute.Nonce, 'obMatJos2gAAA0123456789abcdef')
    .passwordAlgorithms(Attribute.PasswordAlgorithms, algorithms)
    .copy(),
  'unknown-attributes': start(Method.Binding, Error).errorCode(420).unknownAttributes([1, 0x7ff0, 0x7fff]).copy(),
  redirect: start(Method.Binding, Error)
    .errorCode(300)
    .address(Attribute.AlternateServer, v4)
    .address(Attribute.AlternateServer, v6)
    .text(Attribute.AlternateDomain, 'stun.example.org')
    .integrity(key)
    .integritySha256(key)
    .fingerprint()
    .copy(),
  'short-term': start(Method.Binding, Request)
    .text(Attribute.Username, 'alice')
    .integrity(key)
    .integritySha256(key, 16)
    .text(Attribute.Realm, 'ignored')
    .copy(),
  allocate: start(Method.Allocate, Request)
    .uint8(Attribute.RequestedTransport, 17, true)
    .uint32(Attribute.Lifetime, 600)
    .uint8(Attribute.EvenPort, 0x80)
    .flag(Attribute.DontFragment)
    .bytes(Attribute.ReservationToken, Buffer.alloc(8, 1))
    .copy(),
  'send-indication': start(Method.Send, Indication)
    .xorAddress(Attribute.XorPeerAddress, v4)
    .bytes(Attribute.Data, Buffer.from('hello'))
    .copy(),
}

for (const [name, bytes] of Object.entries(seeds)) {
  const lines = Buffer.from(bytes).toString('hex').match(/.{1,64}/g) ?? []
  writeFileSync(join(import.meta.dirname, `${name}.hex`), lines.join('\n') + '\n')
}
