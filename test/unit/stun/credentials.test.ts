import assert from 'node:assert/strict'
import test from 'node:test'
import { SECOND } from '../../../src/core/machine.ts'
import { StunBuilder } from '../../../src/stun/codec/builder.ts'
import {
  Attribute,
  ErrorCode,
  MessageClass,
  Method,
  PasswordAlgorithm,
  SecurityFeature,
} from '../../../src/stun/codec/registry.ts'
import { StunView } from '../../../src/stun/codec/view.ts'
import { LongTermAuth, ShortTermAuth, type ClientAuth } from '../../../src/stun/credentials/client.ts'
import { longTermKey, shortTermKey, userhash } from '../../../src/stun/credentials/keys.ts'
import { NonceMint, nonceCookie, securityFeatures } from '../../../src/stun/credentials/nonce.ts'
import { opaqueString } from '../../../src/stun/credentials/opaque-string.ts'
import {
  LongTermServerAuth,
  ShortTermServerAuth,
  StaticUsers,
  type CredentialStore,
  type ServerAuth,
} from '../../../src/stun/credentials/server.ts'
import * as vectors from './vectors.ts'

const secret = Buffer.alloc(32, 7)
const client = { address: '192.0.2.1', port: 4000 }
const refused = { code: 'ERR_NATWORK_STUN_CREDENTIALS' }

test('OpaqueString: the examples of RFC 8265 §4.3', () => {
  assert.equal(opaqueString('correct horse battery staple'), 'correct horse battery staple')
  assert.equal(opaqueString('Correct Horse Battery Staple'), 'Correct Horse Battery Staple')
  assert.equal(opaqueString('πßå'), 'πßå')
  assert.equal(opaqueString('Jack of ♦s'), 'Jack of ♦s')
  assert.equal(opaqueString('foo\u1680bar'), 'foo bar')
  assert.throws(() => opaqueString(''), refused)
  assert.throws(() => opaqueString('my cat is a \u0009by'), refused)
})

test('OpaqueString: spaces and NFC, no width and no case mapping, and it is idempotent', () => {
  for (const [text, prepared] of [
    ['a\u00a0b\u3000c', 'a b c'],
    ['e\u0301', 'é'],
    ['Ａ', 'Ａ'],
    ['Å', 'Å'],
    [vectors.username, vectors.username],
    ['a·b'.replace('a·b', 'l·l'), 'l·l'],
    ['\u0375α', '\u0375α'],
    ['א\u05f3', 'א\u05f3'],
    ['カ・', 'カ・'],
    ['\u0661\u0662', '\u0661\u0662'],
    ['क\u094d\u200d', 'क\u094d\u200d'],
    ['می\u200cخواهم', 'می\u200cخواهم'],
    ['😀', '😀'],
  ] as const) {
    assert.equal(opaqueString(text), prepared)
    assert.equal(opaqueString(prepared), prepared)
  }
})

test('OpaqueString: what the FreeformClass does not allow is refused', () => {
  const bad = [
    '\0',
    'a\u00ad',
    '\u200b',
    '\ufeff',
    '\ue000',
    '\ud800',
    '\uffff',
    '\u0378',
    '\u1100',
    '\u0640',
  ]
  // Contexts that do not hold (RFC 5892 appendix A).
  bad.push(
    'a\u200cb',
    'a\u200d',
    'a·b',
    '\u0375a',
    'a\u05f3',
    'a\u30fb',
    '\u0661\u06f1',
    '\u2028',
    '\u007f',
    '\u034f',
  )
  for (const text of bad) assert.throws(() => opaqueString(text), refused, JSON.stringify(text))
})

test('keys: the example of RFC 8489 §9.2.2, and quotes and nulls removed', () => {
  const hex = (key: Uint8Array): string => Buffer.from(key).toString('hex')
  assert.equal(
    hex(longTermKey(PasswordAlgorithm.Md5, 'user', 'realm', 'pass')),
    '8493fbc53ba582fb4c044c456bdc40eb',
  )
  assert.deepEqual(
    longTermKey(PasswordAlgorithm.Sha256, '"user"\0', '"realm"', 'pass'),
    longTermKey(PasswordAlgorithm.Sha256, 'user', 'realm', 'pass'),
  )
  assert.equal(longTermKey(PasswordAlgorithm.Sha256, 'user', 'realm', 'pass').length, 32)
  assert.equal(
    hex(userhash(vectors.username, vectors.realm)),
    '4a3cf38fef6992bda952c6780417da0f24819415569e60b205c46e41407f1704',
  )
})

test('the nonce cookie carries 24 bits, most significant first', () => {
  assert.equal(nonceCookie(0), 'obMatJos2AAAA')
  assert.equal(nonceCookie(SecurityFeature.PasswordAlgorithms), 'obMatJos2gAAA')
  assert.equal(securityFeatures(vectors.sha256Nonce), 2)
  assert.equal(securityFeatures(vectors.longTermNonce), undefined)
  assert.equal(securityFeatures('obMatJos2AA'), undefined)
  assert.equal(securityFeatures('obMatJos2AA=='), undefined)
  for (let bit = 0; bit < 24; bit++) assert.equal(securityFeatures(nonceCookie(1 << bit) + 'x'), 1 << bit)
})

test('nonces are valid for their client, for their time, from their server', () => {
  const mint = new NonceMint(secret, SecurityFeature.PasswordAlgorithms, 600 * SECOND)
  const nonce = mint.make(1000 * SECOND, client)
  assert.ok(mint.isValid(1000 * SECOND, client, nonce))
  assert.ok(mint.isValid(1600 * SECOND, client, nonce))
  assert.ok(!mint.isValid(1602 * SECOND, client, nonce))
  assert.ok(!mint.isValid(999 * SECOND, client, nonce), 'from the future')
  assert.ok(!mint.isValid(1000 * SECOND, { ...client, port: 4001 }, nonce))
  assert.ok(!mint.isValid(1000 * SECOND, { ...client, address: '192.0.2.2' }, nonce))
  assert.ok(!new NonceMint(Buffer.alloc(32), 0x800000, 600 * SECOND).isValid(1000 * SECOND, client, nonce))
  for (let n = 0; n < nonce.length; n++) {
    const changed = nonce.slice(0, n) + (nonce[n] === 'x' ? 'y' : 'x') + nonce.slice(n + 1)
    assert.ok(!mint.isValid(1000 * SECOND, client, changed))
  }
  for (const junk of ['', 'x', 'obMatJos2gAAA', nonce + '0'])
    assert.ok(!mint.isValid(1000 * SECOND, client, junk))
})

const builder = new StunBuilder()

function request(auth: ClientAuth | undefined, extra?: (b: StunBuilder) => void) {
  builder.start(Method.Binding, MessageClass.Request, vectors.iceId)
  extra?.(builder)
  const signature = auth?.sign(builder)
  const view = new StunView()
  assert.ok(view.open(builder.copy()))
  return { view, signature }
}

/** What the server says to it, as a message. */
function ask(server: ServerAuth, view: StunView, now = 0, from = client): StunView {
  const outcome = server.check(now, view, from)
  const reply = new StunBuilder().startResponse(view, outcome.ok ? MessageClass.Success : MessageClass.Error)
  if (outcome.ok) {
    outcome.sign(reply.xorAddress(Attribute.XorMappedAddress, from))
  } else outcome.challenge(reply.errorCode(outcome.code))
  const answer = new StunView()
  assert.ok(answer.open(reply.copy()))
  return answer
}

const users = new StaticUsers('example.org', {
  alice: 'wonderland',
  [vectors.username]: vectors.longTermPassword,
})
const server = new LongTermServerAuth(users, secret, 600 * SECOND)

test('long-term: challenge, anonymous username, SHA-256, both sides verified', () => {
  const auth = new LongTermAuth('alice', 'wonderland')
  const first = request(auth)
  assert.equal(first.signature, undefined)
  const challenge = ask(server, first.view)
  assert.equal(challenge.errorCode()?.code, ErrorCode.Unauthenticated)
  assert.equal(auth.examine(challenge, undefined), 'retry')

  const second = request(auth)
  assert.ok(second.view.has(Attribute.Userhash) && !second.view.has(Attribute.Username))
  assert.ok(second.view.has(Attribute.MessageIntegritySha256) && !second.view.has(Attribute.MessageIntegrity))
  assert.deepEqual(second.view.passwordAlgorithms(Attribute.PasswordAlgorithm)?.[0]?.algorithm, 2)
  const answer = ask(server, second.view)
  assert.equal(answer.messageClass, MessageClass.Success)
  assert.equal(auth.examine(answer, second.signature), 'accept')

  // Tampered with on the way.
  const forged = Buffer.from(answer.bytes)
  forged[27]! ^= 1
  const view = new StunView()
  assert.ok(view.open(forged))
  assert.equal(auth.examine(view, second.signature), 'discard')
})

test('long-term: a stale nonce is renewed; a wrong password is not tried twice', () => {
  const auth = new LongTermAuth('alice', 'wonderland')
  auth.examine(ask(server, request(auth).view), undefined)
  const late = request(auth)
  const stale = ask(server, late.view, 700 * SECOND)
  assert.equal(stale.errorCode()?.code, ErrorCode.StaleNonce)
  assert.equal(auth.examine(stale, late.signature), 'retry')
  assert.equal(ask(server, request(auth).view, 700 * SECOND).messageClass, MessageClass.Success)
  // From another address the same nonce is stale.
  const moved = ask(server, request(auth).view, 700 * SECOND, { ...client, port: 1 })
  assert.equal(moved.errorCode()?.code, ErrorCode.StaleNonce)

  for (const [name, password] of [
    ['alice', 'wrong'],
    ['nobody', 'wonderland'],
  ] as const) {
    const intruder = new LongTermAuth(name, password)
    intruder.examine(ask(server, request(intruder).view), undefined)
    const attempt = request(intruder)
    const answer = ask(server, attempt.view)
    assert.equal(answer.errorCode()?.code, ErrorCode.Unauthenticated)
    assert.equal(intruder.examine(answer, attempt.signature), 'accept', 'the error stands')
  }
})

test('long-term: a client of RFC 5389 is served with MD5 and MESSAGE-INTEGRITY', () => {
  const challenge = ask(server, request(undefined).view)
  const key = longTermKey(PasswordAlgorithm.Md5, 'alice', 'example.org', 'wonderland')
  builder.start(Method.Binding, MessageClass.Request, vectors.iceId).text(Attribute.Username, 'alice')
  builder.text(Attribute.Realm, 'example.org').text(Attribute.Nonce, challenge.text(Attribute.Nonce)!)
  const view = new StunView()
  assert.ok(view.open(builder.integrity(key).copy()))
  const answer = ask(server, view)
  assert.ok(answer.hasIntegrity(key) && !answer.has(Attribute.MessageIntegritySha256))
})

test('long-term: a server of RFC 5389 gets MD5, USERNAME and MESSAGE-INTEGRITY', () => {
  const auth = new LongTermAuth('alice', 'wonderland')
  const reply = new StunBuilder().start(Method.Binding, MessageClass.Error, vectors.iceId).errorCode(401)
  reply.text(Attribute.Realm, 'example.org').text(Attribute.Nonce, 'plain')
  const view = new StunView()
  view.open(reply.copy())
  assert.equal(auth.examine(view, undefined), 'retry')
  const signed = request(auth).view
  assert.equal(signed.text(Attribute.Username), 'alice')
  assert.ok(signed.hasIntegrity(longTermKey(PasswordAlgorithm.Md5, 'alice', 'example.org', 'wonderland')))
  assert.ok(!signed.has(Attribute.PasswordAlgorithm) && !signed.has(Attribute.MessageIntegritySha256))
})

test('bid-down: a list that was removed or changed on the way is noticed on both sides', () => {
  const auth = new LongTermAuth('alice', 'wonderland')
  const nonce = ask(server, request(undefined).view).text(Attribute.Nonce)!
  const stripped = new StunBuilder().start(Method.Binding, MessageClass.Error, vectors.iceId).errorCode(401)
  stripped.text(Attribute.Realm, 'example.org').text(Attribute.Nonce, nonce)
  const view = new StunView()
  view.open(stripped.copy())
  assert.equal(auth.examine(view, undefined), 'bid-down')

  // The attacker offers MD5 alone, the client believes it: the server sees its list changed.
  stripped.passwordAlgorithms(Attribute.PasswordAlgorithms, [{ algorithm: 1, parameters: Buffer.alloc(0) }])
  view.open(stripped.copy())
  assert.equal(auth.examine(view, undefined), 'retry')
  assert.equal(ask(server, request(auth).view).errorCode()?.code, ErrorCode.BadRequest)
})

test('long-term: the server’s checks come in the order of RFC 8489 §9.2.4', () => {
  const key = longTermKey(PasswordAlgorithm.Md5, 'alice', 'example.org', 'wonderland')
  const nonce = ask(server, request(undefined).view).text(Attribute.Nonce)!
  const code = (write: (b: StunBuilder) => StunBuilder): number | undefined => {
    const view = new StunView()
    view.open(write(builder.start(Method.Binding, MessageClass.Request, vectors.iceId)).copy())
    return ask(server, view).errorCode()?.code
  }
  assert.equal(
    code((b) => b.text(Attribute.Username, 'alice')),
    401,
  )
  assert.equal(
    code((b) => b.text(Attribute.Username, 'alice').integrity(key)),
    400,
  )
  assert.equal(
    code((b) => b.text(Attribute.Nonce, nonce).text(Attribute.Realm, 'x').integrity(key)),
    400,
  )
  const full = (b: StunBuilder, with_ = nonce): StunBuilder =>
    b.text(Attribute.Username, 'alice').text(Attribute.Realm, 'example.org').text(Attribute.Nonce, with_)
  assert.equal(
    code((b) => full(b).integrity(Buffer.from('x'))),
    401,
  )
  assert.equal(
    code((b) => full(b, 'made up').integrity(key)),
    438,
  )
  const one = [{ algorithm: 1, parameters: Buffer.alloc(0) }]
  assert.equal(
    code((b) => full(b).passwordAlgorithms(Attribute.PasswordAlgorithm, one).integrity(key)),
    400,
  )
  assert.equal(
    code((b) => full(b).integrity(key)),
    undefined,
  )
})

test('a store without usernameOf does not offer anonymity', () => {
  const plain: CredentialStore = { realm: 'r', key: (name, algorithm) => users.key(name, algorithm) }
  const challenge = ask(new LongTermServerAuth(plain, secret, SECOND), request(undefined).view)
  assert.equal(securityFeatures(challenge.text(Attribute.Nonce)!), SecurityFeature.PasswordAlgorithms)
})

test('short-term: both attributes first, then what the server answered with', () => {
  const keys = new Map([['alice', shortTermKey('secret')]])
  const shortTerm = new ShortTermServerAuth((name) => keys.get(name))
  const auth = new ShortTermAuth('alice', 'secret')
  const first = request(auth)
  assert.ok(first.view.has(Attribute.MessageIntegrity) && first.view.has(Attribute.MessageIntegritySha256))
  const answer = ask(shortTerm, first.view)
  assert.ok(answer.hasIntegritySha256(keys.get('alice')!) && !answer.has(Attribute.MessageIntegrity))
  assert.equal(auth.examine(answer, first.signature), 'accept')
  const second = request(auth)
  assert.ok(!second.view.has(Attribute.MessageIntegrity) && second.view.has(Attribute.MessageIntegritySha256))

  const old = new ShortTermAuth('alice', 'secret', 'sha1')
  const sha1 = request(old)
  const sha1Answer = ask(shortTerm, sha1.view)
  assert.equal(old.examine(sha1Answer, sha1.signature), 'accept')
  // An answer by the other algorithm than the one that was sent is not believed (§9.1.4).
  assert.equal(old.examine(answer, sha1.signature), 'discard')

  assert.equal(ask(shortTerm, request(new ShortTermAuth('bob', 'secret')).view).errorCode()?.code, 401)
  assert.equal(ask(shortTerm, request(new ShortTermAuth('alice', 'wrong')).view).errorCode()?.code, 401)
  assert.equal(ask(shortTerm, request(undefined).view).errorCode()?.code, 400)
})

test('a challenge that cannot be answered is an answer, never an exception', () => {
  for (const realm of ['', '\u0007', 'x'.repeat(764)]) {
    const auth = new LongTermAuth('alice', 'wonderland')
    const reply = new StunBuilder().start(Method.Binding, MessageClass.Error, vectors.iceId).errorCode(401)
    reply.bytes(Attribute.Realm, Buffer.from(realm)).text(Attribute.Nonce, 'n')
    const view = new StunView()
    view.open(reply.copy())
    assert.equal(auth.examine(view, undefined), 'accept')
  }
  const auth = new LongTermAuth('alice', 'wonderland')
  const reply = new StunBuilder().start(Method.Binding, MessageClass.Error, vectors.iceId).errorCode(401)
  reply.text(Attribute.Realm, 'r').text(Attribute.Nonce, 'n')
  reply.passwordAlgorithms(Attribute.PasswordAlgorithms, [{ algorithm: 9, parameters: Buffer.alloc(0) }])
  const view = new StunView()
  view.open(reply.copy())
  assert.equal(auth.examine(view, undefined), 'accept', 'no algorithm of ours')
})
