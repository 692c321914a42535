import {
  Attribute,
  longTermKey,
  PasswordAlgorithm,
  type ClientAuth,
  type Signature,
  type StunBuilder,
  type StunView,
  type Verdict,
} from '../../src/stun/index.ts'

/** Credentials as RFC 5389 has them, MD5 and SHA-1: what all the servers agree on. */
export class OldAuth implements ClientAuth {
  readonly #username: string
  readonly #password: string
  #challenge: { realm: string; nonce: string; key: Uint8Array } | undefined

  constructor(username: string, password: string) {
    this.#username = username
    this.#password = password
  }

  fresh(): ClientAuth {
    return new OldAuth(this.#username, this.#password)
  }

  sign(builder: StunBuilder): Signature | undefined {
    if (this.#challenge === undefined) return undefined
    const { realm, nonce, key } = this.#challenge
    builder
      .text(Attribute.Username, this.#username)
      .text(Attribute.Realm, realm)
      .text(Attribute.Nonce, nonce)
      .integrity(key)
    return undefined
  }

  examine(response: StunView): Verdict {
    const realm = response.text(Attribute.Realm)
    const nonce = response.text(Attribute.Nonce)
    const code = response.errorCode()?.code
    if ((code !== 401 && code !== 438) || realm === undefined || nonce === undefined) return 'accept'
    if (code === 401 && this.#challenge !== undefined) return 'accept'
    const key = longTermKey(PasswordAlgorithm.Md5, this.#username, realm, this.#password)
    this.#challenge = { realm, nonce, key }
    return 'retry'
  }
}
