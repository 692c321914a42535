import { isIP } from 'node:net'
import { z } from 'zod'
import { formatAddress, parseAddress, type SocketAddress } from '../core/address.ts'
import { UsageError } from '../core/errors.ts'
import { isNodeId, parseNodeId, type NodeId } from './node-id.ts'

/** A node that forwards signals, and where a stranger finds it. */
export interface HelperReference {
  readonly id: NodeId
  readonly address: SocketAddress
}

/** In a record. */
export const maxRecordHelpers = 4

/** A helper as a person names it: `ID@HOST:PORT`; the host may be a name. */
export interface ConfiguredHelper {
  readonly id: NodeId
  readonly host: string
  readonly port: number
}

/**
 * Reads `ID@HOST:PORT`, `ID@[2001:db8::1]:1315`.
 *
 * @throws {UsageError} `ERR_NATWORK_HELPER`, `ERR_NATWORK_NODE_ID`
 */
export function parseHelper(text: string): ConfiguredHelper {
  const match = /^([^@]+)@(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text)
  const host = match?.[2] ?? match?.[3]
  const port = Number(match?.[4])
  if (match?.[1] === undefined || host === undefined || port < 1 || port > 65535) {
    throw new UsageError(
      'ERR_NATWORK_HELPER',
      `"${text.slice(0, 120)}" is not a helper: write ID@HOST:PORT with the id that \`natwork id\` prints there`,
    )
  }
  return { id: parseNodeId(match[1]), host, port }
}

export function formatHelper({ id, address }: HelperReference): string {
  return `${id}@${formatAddress(address)}`
}

/** Reads what {@link formatHelper} writes. @throws {UsageError} */
export function parseHelperReference(text: string): HelperReference {
  const at = text.indexOf('@')
  return { id: parseNodeId(text.slice(0, at)), address: parseAddress(text.slice(at + 1)) }
}

export const addressSchema = z.strictObject({
  address: z
    .string()
    .max(45)
    .refine((text) => isIP(text) !== 0 && !text.includes('%'), 'not an IP address'),
  port: z.int().min(1).max(65535),
})

export const helperSchema = z.strictObject({
  id: z.string().max(64).refine(isNodeId, 'not a node id'),
  address: addressSchema,
})
