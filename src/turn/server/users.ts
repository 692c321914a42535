import { createHmac } from 'node:crypto'
import { PasswordAlgorithm } from '../../stun/codec/registry.ts'
import { longTermKey } from '../../stun/credentials/keys.ts'
import { opaqueString } from '../../stun/credentials/opaque-string.ts'
import type { CredentialStore } from '../../stun/credentials/server.ts'

/** A username and a password for it. */
export interface TurnCredentials {
  readonly username: string
  readonly password: string
}

/**
 * Credentials that hold until a time, made from a secret that a web application and the relay share: the convention of
 * coturn and browsers ("TURN REST API", draft-uberti-behave-turn-rest). The username is `EXPIRY:NAME` with the expiry
 * in Unix seconds, the password the HMAC-SHA1 of it.
 *
 * @param expiresAt Unix time in seconds.
 */
export function timeLimitedCredentials(secret: string, expiresAt: number, name = ''): TurnCredentials {
  const username = name === '' ? String(Math.floor(expiresAt)) : `${Math.floor(expiresAt)}:${name}`
  return { username, password: passwordFor(secret, username) }
}

/** Takes {@link timeLimitedCredentials} of any of its secrets until they expire, for every request anew. */
export class SharedSecretUsers implements CredentialStore {
  readonly realm: string
  readonly #secrets: readonly string[]
  readonly #unixTime: () => number

  /**
   * @param secrets one, or several while one replaces another.
   * @param unixTime the time of day in seconds: expiries are in it.
   */
  constructor(realm: string, secrets: string | readonly string[], unixTime: () => number) {
    this.realm = opaqueString(realm)
    this.#secrets = typeof secrets === 'string' ? [secrets] : secrets
    this.#unixTime = unixTime
  }

  key(username: string, algorithm: PasswordAlgorithm): readonly Uint8Array[] | undefined {
    const expiry = timeLimited.exec(username)?.[1]
    if (expiry === undefined || Number(expiry) <= this.#unixTime()) return undefined
    const keys = this.#secrets.map((secret) =>
      keyOf(algorithm, username, this.realm, passwordFor(secret, username)),
    )
    const made = keys.filter((key) => key !== undefined)
    return made.length === 0 ? undefined : made
  }

  /** The name behind the expiry: new credentials are no new quotas. Credentials without a name are each for itself. */
  accountOf(username: string): string | undefined {
    const name = timeLimited.exec(username)?.[2]
    return name === undefined || name === '' ? undefined : `:${name}`
  }
}

const timeLimited = /^(\d{1,15})(?::(.*)|$)/su

/** Users with their long-term keys, as a file has them: passwords need not be stored. */
export class KeyedUsers implements CredentialStore {
  readonly realm: string
  /** Bounded by the configuration. */
  readonly #keys = new Map<string, ReadonlyMap<PasswordAlgorithm, Uint8Array>>()

  /** @param users per username the keys there are: {@link longTermKey}. A user without SHA-256 key logs in by MD5 only. */
  constructor(
    realm: string,
    users: Iterable<
      readonly [username: string, keys: { readonly md5?: Uint8Array; readonly sha256?: Uint8Array }]
    >,
  ) {
    this.realm = opaqueString(realm)
    for (const [username, { md5, sha256 }] of users) {
      const keys = new Map<PasswordAlgorithm, Uint8Array>()
      if (md5 !== undefined) keys.set(PasswordAlgorithm.Md5, md5)
      if (sha256 !== undefined) keys.set(PasswordAlgorithm.Sha256, sha256)
      this.#keys.set(opaqueString(username), keys)
    }
  }

  key(username: string, algorithm: PasswordAlgorithm): Uint8Array | undefined {
    return this.#keys.get(username)?.get(algorithm)
  }
}

/**
 * Credentials that a helper has given to nodes it knows, each for a while: a callback says the password of a username,
 * or undefined when there is none (any more).
 */
export class CallbackUsers implements CredentialStore {
  readonly realm: string
  readonly #passwordOf: (username: string) => string | undefined
  readonly #accountOf: ((username: string) => string) | undefined

  /** @param accountOf whose quotas a username uses; default: each username for itself. */
  constructor(
    realm: string,
    passwordOf: (username: string) => string | undefined,
    accountOf?: (username: string) => string,
  ) {
    this.realm = opaqueString(realm)
    this.#passwordOf = passwordOf
    this.#accountOf = accountOf
  }

  key(username: string, algorithm: PasswordAlgorithm): Uint8Array | undefined {
    const password = this.#passwordOf(username)
    // Made for unknown ones too: the time it takes tells nobody who exists.
    const key = keyOf(algorithm, username, this.realm, password ?? 'nobody’s')
    return password === undefined ? undefined : key
  }

  accountOf(username: string): string | undefined {
    return this.#accountOf?.(username)
  }
}

/** Several sources of users for one realm: the first that knows a username decides. */
export class AnyOfUsers implements CredentialStore {
  readonly realm: string
  readonly #stores: readonly CredentialStore[]

  constructor(realm: string, stores: readonly CredentialStore[]) {
    this.realm = opaqueString(realm)
    this.#stores = stores
  }

  key(username: string, algorithm: PasswordAlgorithm): Uint8Array | readonly Uint8Array[] | undefined {
    for (const store of this.#stores) {
      const key = store.key(username, algorithm)
      if (key !== undefined) return key
    }
    return undefined
  }

  accountOf(username: string): string | undefined {
    for (const store of this.#stores) {
      const account = store.accountOf?.(username)
      if (account !== undefined) return account
    }
    return undefined
  }
}

function passwordFor(secret: string, username: string): string {
  return createHmac('sha1', secret).update(username).digest('base64')
}

/** A username from the wire may be what OpaqueString forbids: then nobody has it. */
function keyOf(
  algorithm: PasswordAlgorithm,
  username: string,
  realm: string,
  password: string,
): Uint8Array | undefined {
  try {
    return longTermKey(algorithm, username, realm, password)
  } catch {
    return undefined
  }
}
