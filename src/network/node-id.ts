import { createHash, createPublicKey, type KeyObject } from 'node:crypto'
import { base32 } from 'multiformats/bases/base32'
import { UsageError } from '../core/errors.ts'

declare const brand: unique symbol

/**
 * A node's name: multibase base32 (`b…`, lower case) of SHA-256 of its Ed25519 SubjectPublicKeyInfo (RFC 8410),
 * 53 characters. Whoever knows the id can check any claim to it, so ids need no authority.
 */
export type NodeId = string & { readonly [brand]: 'NodeId' }

export const nodeIdLength = 53

/** The id of the node that holds this key, be it the public or the private one. */
export function nodeIdOf(key: KeyObject): NodeId {
  const publicKey = key.type === 'private' ? createPublicKey(key) : key
  return nodeIdOfSpki(publicKey.export({ type: 'spki', format: 'der' }))
}

export function nodeIdOfSpki(spki: Uint8Array): NodeId {
  return base32.encode(createHash('sha256').update(spki).digest()) as NodeId
}

/**
 * Reads a node id that a person or a program gave.
 *
 * @throws {UsageError} `ERR_NATWORK_NODE_ID`, saying what is wrong with it.
 */
export function parseNodeId(text: string): NodeId {
  const wrong = whatIsWrong(text)
  if (wrong !== undefined) {
    throw new UsageError(
      'ERR_NATWORK_NODE_ID',
      `"${text.slice(0, 80)}" is not a node id: ${wrong}. Copy it again from "natwork id" on that node.`,
    )
  }
  return text as NodeId
}

export function isNodeId(text: string): text is NodeId {
  return whatIsWrong(text) === undefined
}

function whatIsWrong(text: string): string | undefined {
  if (!text.startsWith('b')) return 'it must begin with "b"'
  const strange = /[^a-z2-7]/.exec(text)
  if (strange) return `character ${strange.index + 1}, "${strange[0]}", is none of a–z and 2–7`
  if (text.length !== nodeIdLength) return `it has ${text.length} characters instead of ${nodeIdLength}`
  // 52 characters hold 260 bits; the four after the hash are zero, or two texts would name one node.
  if (!'aq'.includes(text.at(-1) ?? '')) return 'its end cannot be right, at least one character was mistyped'
  return undefined
}
