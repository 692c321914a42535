import type { SocketAddress } from '../../core/address.ts'
import type { Micros } from '../../core/machine.ts'
import type { StunBuilder } from '../codec/builder.ts'
import { Attribute, ErrorCode, PasswordAlgorithm, SecurityFeature } from '../codec/registry.ts'
import type { OfferedAlgorithm, StunView } from '../codec/view.ts'
import { longTermKey, userhash } from './keys.ts'
import { NonceMint, securityFeatures } from './nonce.ts'
import { opaqueString } from './opaque-string.ts'

/** The outcome of checking a request's credentials. */
export type Authentication =
  | {
      readonly ok: true
      readonly username: string
      /** Whose quotas it uses: the username, unless the store says otherwise. */
      readonly account: string
      /** Adds what the response must carry, behind everything but FINGERPRINT. */
      readonly sign: (response: StunBuilder) => void
    }
  | {
      readonly ok: false
      readonly code: number
      /** Adds the challenge, where the error has one, behind ERROR-CODE. */
      readonly challenge: (response: StunBuilder) => void
    }

/** A server's side of RFC 8489 §9. It holds no state per client. */
export interface ServerAuth {
  check(now: Micros, request: StunView, client: SocketAddress): Authentication
}

/** Who may use the server, and the key of each: see {@link longTermKey}. Asked once or twice per request. */
export interface CredentialStore {
  readonly realm: string
  /** Several while a secret is being replaced: any of them is right. */
  key(username: string, algorithm: PasswordAlgorithm): Uint8Array | readonly Uint8Array[] | undefined
  /** Whom a USERHASH stands for. Absent: the server does not offer username anonymity. */
  usernameOf?(hash: Uint8Array): string | undefined
  /** Who stands behind several usernames, for quotas. Absent or undefined: each username for itself. */
  accountOf?(username: string): string | undefined
}

/** A fixed list of users, with the keys made once. */
export class StaticUsers implements CredentialStore {
  readonly realm: string
  readonly #keys = new Map<string, ReadonlyMap<PasswordAlgorithm, Uint8Array>>()
  readonly #usernames = new Map<string, string>()

  /**
   * @param users password by username.
   * @throws {StunUsageError} `ERR_NATWORK_STUN_CREDENTIALS`
   */
  constructor(realm: string, users: Readonly<Record<string, string>>) {
    this.realm = opaqueString(realm)
    for (const [name, password] of Object.entries(users)) {
      const username = opaqueString(name)
      this.#keys.set(
        username,
        new Map(
          offered.map((algorithm) => [algorithm, longTermKey(algorithm, username, this.realm, password)]),
        ),
      )
      this.#usernames.set(Buffer.from(userhash(username, this.realm)).toString('hex'), username)
    }
  }

  key(username: string, algorithm: PasswordAlgorithm): Uint8Array | undefined {
    return this.#keys.get(username)?.get(algorithm)
  }

  usernameOf(hash: Uint8Array): string | undefined {
    return this.#usernames.get(Buffer.from(hash).toString('hex'))
  }
}

/** What we offer, the best first. MD5 is "for compatibility with legacy systems" (§18.5.1.1). */
const offered: readonly PasswordAlgorithm[] = [PasswordAlgorithm.Sha256, PasswordAlgorithm.Md5]
const offeredList: readonly OfferedAlgorithm[] = offered.map((algorithm) => ({
  algorithm,
  parameters: new Uint8Array(0),
}))

/** Long-term credentials (RFC 8489 §9.2.4), with nonces that need no memory. */
export class LongTermServerAuth implements ServerAuth {
  readonly #store: CredentialStore
  readonly #mint: NonceMint
  readonly #nobody: Uint8Array

  /**
   * @param secret 16 bytes or more of randomness: nonces are made and recognised by it.
   * @param nonceLifetime microseconds after which clients are asked to answer a new nonce.
   */
  constructor(store: CredentialStore, secret: Uint8Array, nonceLifetime: Micros) {
    const anonymity = store.usernameOf === undefined ? 0 : SecurityFeature.UsernameAnonymity
    this.#store = store
    this.#mint = new NonceMint(secret, SecurityFeature.PasswordAlgorithms | anonymity, nonceLifetime)
    this.#nobody = Uint8Array.from(secret)
  }

  /** Adds what a 401 or 438 to that client carries. */
  challenge(now: Micros, client: SocketAddress, response: StunBuilder): void {
    response.text(Attribute.Realm, this.#store.realm).text(Attribute.Nonce, this.#mint.make(now, client))
    response.passwordAlgorithms(Attribute.PasswordAlgorithms, offeredList)
  }

  check(now: Micros, request: StunView, client: SocketAddress): Authentication {
    const challenge = (response: StunBuilder): void => this.challenge(now, client, response)
    const hasSha256 = request.has(Attribute.MessageIntegritySha256)
    if (!hasSha256 && !request.has(Attribute.MessageIntegrity)) return unauthenticated(challenge)
    const nonce = request.text(Attribute.Nonce)
    const hash = request.value(Attribute.Userhash)
    const name = request.text(Attribute.Username)
    if ((name === undefined && hash === undefined) || nonce === undefined || !request.has(Attribute.Realm)) {
      return badRequest
    }
    const chosen = chosenAlgorithm(request, nonce)
    if (chosen === undefined) return badRequest

    const username = name ?? (hash === undefined ? undefined : this.#store.usernameOf?.(hash))
    const known = username === undefined ? undefined : this.#store.key(username, chosen.algorithm)
    // Unknown users cost the same HMAC as known ones: the time to refuse tells nobody who exists.
    const key = keysOf(known ?? this.#nobody).find((one) =>
      hasSha256 ? request.hasIntegritySha256(one) : request.hasIntegrity(one),
    )
    if (key === undefined || known === undefined || username === undefined) return unauthenticated(challenge)
    if (!this.#mint.isValid(now, client, nonce)) return { ok: false, code: ErrorCode.StaleNonce, challenge }
    return {
      ok: true,
      username,
      account: this.#store.accountOf?.(username) ?? username,
      sign: (response) => {
        if (chosen.explicit) response.integritySha256(key)
        else response.integrity(key)
      },
    }
  }
}

/** Short-term credentials (RFC 8489 §9.1.3). */
export class ShortTermServerAuth implements ServerAuth {
  readonly #keyOf: (username: string) => Uint8Array | undefined

  /** @param keyOf the key ({@link shortTermKey}) of a username that is valid now. */
  constructor(keyOf: (username: string) => Uint8Array | undefined) {
    this.#keyOf = keyOf
  }

  check(_now: Micros, request: StunView): Authentication {
    const username = request.text(Attribute.Username)
    const sha256 = request.has(Attribute.MessageIntegritySha256)
    if (username === undefined || (!sha256 && !request.has(Attribute.MessageIntegrity))) return badRequest
    const key = this.#keyOf(username)
    if (key === undefined) return unauthenticated(nothing)
    if (!(sha256 ? request.hasIntegritySha256(key) : request.hasIntegrity(key)))
      return unauthenticated(nothing)
    return {
      ok: true,
      username,
      account: username,
      sign: (response) => {
        if (sha256) response.integritySha256(key)
        else response.integrity(key)
      },
    }
  }
}

const nothing = (): void => undefined
const keysOf = (keys: Uint8Array | readonly Uint8Array[]): readonly Uint8Array[] =>
  keys instanceof Uint8Array ? [keys] : keys
const badRequest: Authentication = { ok: false, code: ErrorCode.BadRequest, challenge: nothing }

function unauthenticated(challenge: (response: StunBuilder) => void): Authentication {
  return { ok: false, code: ErrorCode.Unauthenticated, challenge }
}

/** The third check of §9.2.4; undefined when it fails. `explicit`: the client has chosen, MD5 is not just assumed. */
function chosenAlgorithm(
  request: StunView,
  nonce: string,
): { algorithm: PasswordAlgorithm; explicit: boolean } | undefined {
  const assumed = { algorithm: PasswordAlgorithm.Md5, explicit: false }
  const features = securityFeatures(nonce)
  if (features === undefined || (features & SecurityFeature.PasswordAlgorithms) === 0) return assumed
  const list = request.passwordAlgorithms(Attribute.PasswordAlgorithms)
  const one = request.passwordAlgorithms(Attribute.PasswordAlgorithm)
  const present = request.has(Attribute.PasswordAlgorithms) || request.has(Attribute.PasswordAlgorithm)
  if (!present) return assumed
  // The list has to be ours, unchanged: that is what uncovers who cut it on the way (§9.2.1).
  const unchanged =
    list?.length === offered.length &&
    list.every(({ algorithm, parameters }, n) => algorithm === offered[n] && parameters.length === 0)
  const algorithm = offered.find((known) => known === one?.[0]?.algorithm)
  if (!unchanged || one?.length !== 1 || one[0]?.parameters.length !== 0 || algorithm === undefined) {
    return undefined
  }
  return { algorithm, explicit: true }
}
