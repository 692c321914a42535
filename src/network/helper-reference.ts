import { isIP } from 'node:net'
import { z } from 'zod'
import { formatAddress, parseAddress, type SocketAddress } from '../core/address.ts'
import { UsageError } from '../core/errors.ts'
import { isNodeId, parseNodeId, type NodeId } from './node-id.ts'

/** A node that forwards signals, and where a stranger finds it. */
export interface HelperReference {
  readonly id: NodeId
  /** UDP. */
  readonly address: SocketAddress
  /** The TCP port for TLS at the same IP address; {@link defaultTlsPort} when absent. */
  readonly tls?: number
}

/** Where a helper that can takes TLS: the port that the strictest networks let out. */
export const defaultTlsPort = 443

/** In a record. */
export const maxRecordHelpers = 4

/** A helper as a person names it: `ID@HOST:PORT`; the host may be a name. */
export interface ConfiguredHelper {
  readonly id: NodeId
  readonly host: string
  readonly port: number
  /** Where it takes TLS; when absent it may be {@link defaultTlsPort}, or the TCP port of the same number. */
  readonly tls?: number
}

/**
 * Reads `ID@HOST:PORT`, `ID@[2001:db8::1]:1315`, and `ID@HOST:PORT/TLS` with the TCP port for TLS.
 *
 * @throws {UsageError} `ERR_NATWORK_HELPER`, `ERR_NATWORK_NODE_ID`
 */
export function parseHelper(text: string): ConfiguredHelper {
  const match = /^([^@]+)@(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})(?:\/(\d{1,5}))?$/.exec(text)
  const host = match?.[2] ?? match?.[3]
  const port = Number(match?.[4])
  const tls = match?.[5] === undefined ? undefined : Number(match[5])
  if (
    match?.[1] === undefined ||
    host === undefined ||
    !isPort(port) ||
    (tls !== undefined && !isPort(tls))
  ) {
    throw new UsageError(
      'ERR_NATWORK_HELPER',
      `"${text.slice(0, 120)}" is not a helper: write ID@HOST:PORT with the id that \`natwork id\` prints there`,
    )
  }
  return { id: parseNodeId(match[1]), host, port, ...(tls !== undefined && { tls }) }
}

export function formatHelper({ id, address, tls }: HelperReference): string {
  return `${id}@${formatAddress(address)}${tls === undefined ? '' : `/${tls}`}`
}

/** Reads what {@link formatHelper} writes. @throws {UsageError} */
export function parseHelperReference(text: string): HelperReference {
  const at = text.indexOf('@')
  const [, address = '', port] = /^([^/]*)(?:\/(\d{1,5}))?$/.exec(text.slice(at + 1)) ?? []
  const tls = port === undefined ? undefined : Number(port)
  if (tls !== undefined && !isPort(tls)) throw new UsageError('ERR_NATWORK_HELPER', `${tls} is no port`)
  return {
    id: parseNodeId(text.slice(0, at)),
    address: parseAddress(address),
    ...(tls !== undefined && { tls }),
  }
}

function isPort(port: number): boolean {
  return port >= 1 && port <= 65_535
}

export const addressSchema = z.strictObject({
  address: z
    .string()
    .max(45)
    .refine((text) => isIP(text) !== 0 && !text.includes('%'), 'not an IP address'),
  port: portSchema(),
})

export const helperSchema = z.strictObject({
  id: z.string().max(64).refine(isNodeId, 'not a node id'),
  address: addressSchema,
  tls: portSchema().exactOptional(),
})

export function portSchema(): z.ZodInt {
  return z.int().min(1).max(65535)
}
