import { PasswordAlgorithm, Attribute, ErrorCode, MessageClass, SecurityFeature } from '../codec/registry.ts'
import type { StunBuilder } from '../codec/builder.ts'
import type { StunView } from '../codec/view.ts'
import { longTermKey, shortTermKey, userhash } from './keys.ts'
import { securityFeatures } from './nonce.ts'
import { opaqueString } from './opaque-string.ts'

/** What one request was signed with, to check its response by. */
export interface Signature {
  readonly key: Uint8Array
  readonly integrity: 'sha1' | 'sha256' | 'both'
  /** Of long-term credentials. */
  readonly realm?: string
}

/**
 * What a response means to the credentials:
 * - `accept`: it is authentic, or needs not be.
 * - `retry`: send the request again, in a new transaction: the challenge has been taken in.
 * - `discard`: as if it had never come; over TCP and TLS the transaction fails.
 * - `bid-down`: somebody removed PASSWORD-ALGORITHMS on the way (RFC 8489 §9.2.5).
 */
export type Verdict = 'accept' | 'retry' | 'discard' | 'bid-down'

/** Credentials towards one server. Keep the object: it holds the challenge, which later requests answer at once. */
export interface ClientAuth {
  /** Adds the authentication attributes behind the request's own; undefined when it knows no challenge yet. */
  sign(builder: StunBuilder): Signature | undefined
  /** @param signature what {@link sign} returned for this request. */
  examine(response: StunView, signature: Signature | undefined): Verdict
  /** The same credentials for another server, with no challenge known. */
  fresh(): ClientAuth
}

/** RFC 8489 §9.1. `integrity`: what both sides are known to support; both attributes are sent when that is not known. */
export class ShortTermAuth implements ClientAuth {
  readonly #username: string
  readonly #password: string
  readonly #key: Uint8Array
  #integrity: 'sha1' | 'sha256' | 'both'

  /** @throws {StunUsageError} `ERR_NATWORK_STUN_CREDENTIALS` */
  constructor(username: string, password: string, integrity: 'sha1' | 'sha256' | 'both' = 'both') {
    this.#username = opaqueString(username)
    this.#password = opaqueString(password)
    this.#key = shortTermKey(this.#password)
    this.#integrity = integrity
  }

  fresh(): ClientAuth {
    return new ShortTermAuth(this.#username, this.#password, this.#integrity)
  }

  sign(builder: StunBuilder): Signature {
    builder.text(Attribute.Username, this.#username)
    const signature = { key: this.#key, integrity: this.#integrity }
    addIntegrity(builder, signature)
    return signature
  }

  examine(response: StunView, signature: Signature | undefined): Verdict {
    if (signature === undefined || !isAuthentic(response, signature)) return 'discard'
    // Later requests carry only what the server answered with (§9.1.5).
    this.#integrity = response.has(Attribute.MessageIntegritySha256) ? 'sha256' : 'sha1'
    return 'accept'
  }
}

/** RFC 8489 §9.2: challenge and response, with the anonymous username and SHA-256 where the server offers them. */
export class LongTermAuth implements ClientAuth {
  readonly #username: string
  readonly #password: string
  #challenge: Challenge | undefined

  /** @throws {StunUsageError} `ERR_NATWORK_STUN_CREDENTIALS` */
  constructor(username: string, password: string) {
    this.#username = opaqueString(username)
    this.#password = opaqueString(password)
  }

  fresh(): ClientAuth {
    return new LongTermAuth(this.#username, this.#password)
  }

  sign(builder: StunBuilder): Signature | undefined {
    const challenge = this.#challenge
    if (challenge === undefined) return undefined
    if (challenge.anonymous) builder.bytes(Attribute.Userhash, userhash(this.#username, challenge.realm))
    else builder.text(Attribute.Username, this.#username)
    // As the server wrote them, which may be more than we would write ourselves (§14.9, §14.10).
    builder
      .bytes(Attribute.Realm, Buffer.from(challenge.realm))
      .bytes(Attribute.Nonce, Buffer.from(challenge.nonce))
    if (challenge.offered !== undefined) {
      builder.bytes(Attribute.PasswordAlgorithms, challenge.offered)
      builder.passwordAlgorithms(Attribute.PasswordAlgorithm, [
        { algorithm: challenge.algorithm, parameters: new Uint8Array(0) },
      ])
    }
    const { key, realm } = challenge
    const signature = { key, realm, integrity: challenge.offered === undefined ? 'sha1' : 'sha256' } as const
    addIntegrity(builder, signature)
    return signature
  }

  // §9.2.5, in its order.
  examine(response: StunView, signature: Signature | undefined): Verdict {
    const code = response.messageClass === MessageClass.Error ? response.errorCode()?.code : undefined
    const nonce = response.text(Attribute.Nonce)
    const features = nonce === undefined ? undefined : securityFeatures(nonce)
    const stripped =
      features !== undefined &&
      (features & SecurityFeature.PasswordAlgorithms) !== 0 &&
      !response.has(Attribute.PasswordAlgorithms)
    if (code === ErrorCode.Unauthenticated || code === ErrorCode.StaleNonce) {
      if (stripped) return 'bid-down'
      return this.#takeChallenge(response, code, signature) ? 'retry' : 'accept'
    }
    if (stripped) return 'discard'
    if (signature === undefined) return 'accept'
    return isAuthentic(response, signature) ? 'accept' : 'discard'
  }

  /** False when there is nothing new to try: the error is the answer. */
  #takeChallenge(response: StunView, code: number, signature: Signature | undefined): boolean {
    const nonce = response.text(Attribute.Nonce)
    const realm = response.text(Attribute.Realm) ?? signature?.realm
    if (nonce === undefined || realm === undefined || tooLong(realm) || tooLong(nonce)) return false
    // 401 to what was signed for this very realm: the same credentials would fail again.
    if (code === ErrorCode.Unauthenticated && signature?.realm === realm) return false
    const offered = response.value(Attribute.PasswordAlgorithms)
    let algorithm: PasswordAlgorithm = PasswordAlgorithm.Md5
    if (offered !== undefined) {
      const first = response
        .passwordAlgorithms(Attribute.PasswordAlgorithms)
        ?.map((entry) => entry.algorithm)
        .find((id) => id === PasswordAlgorithm.Md5 || id === PasswordAlgorithm.Sha256)
      if (first === undefined) return false
      algorithm = first
    }
    let key: Uint8Array
    try {
      key = longTermKey(algorithm, this.#username, realm, this.#password)
    } catch {
      return false // A realm that OpaqueString does not allow: the server's fault, not ours.
    }
    this.#challenge = {
      realm,
      nonce,
      key,
      algorithm,
      anonymous: ((securityFeatures(nonce) ?? 0) & SecurityFeature.UsernameAnonymity) !== 0,
      offered: offered === undefined ? undefined : Uint8Array.from(offered),
    }
    return true
  }
}

interface Challenge {
  readonly realm: string
  readonly nonce: string
  readonly key: Uint8Array
  readonly algorithm: PasswordAlgorithm
  /** The server takes USERHASH in place of USERNAME. */
  readonly anonymous: boolean
  /** PASSWORD-ALGORITHMS as the server sent it, to be sent back as it is. */
  readonly offered: Uint8Array | undefined
}

/** "as long as 763 bytes when decoding them": more is not kept for a server. */
function tooLong(text: string): boolean {
  return Buffer.byteLength(text) > 763
}

function addIntegrity(builder: StunBuilder, { key, integrity }: Signature): void {
  if (integrity !== 'sha256') builder.integrity(key)
  if (integrity !== 'sha1') builder.integritySha256(key)
}

/** The algorithm of the response has to match what was sent, where only one was (§9.1.4). */
function isAuthentic(response: StunView, { key, integrity }: Signature): boolean {
  if (response.has(Attribute.MessageIntegritySha256)) {
    return integrity !== 'sha1' && response.hasIntegritySha256(key)
  }
  return integrity !== 'sha256' && response.hasIntegrity(key)
}
