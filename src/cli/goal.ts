import { z } from 'zod'
import { UsageError } from '../core/index.ts'
import { readExhaustive } from '../network/options.ts'
import { isNodeId } from '../network/node-id.ts'
import { parseTicket } from '../network/ticket.ts'
import { nodeIdSchema, type Config } from './config.ts'

const address = z.object({ address: z.string(), port: z.int() })

/** What a search through every port may cost. */
const exhaustiveSchema = z.object({
  packets: z.int().min(1).max(1_000_000),
  perSecond: z.int().min(1).max(10_000),
})

/** A node, where to look for it besides what the directory knows, and what that may cost. */
export const peerSchema = z.object({
  id: nodeIdSchema,
  addresses: z.array(address).max(16),
  exhaustive: exhaustiveSchema.exactOptional(),
})

export type Peer = z.output<typeof peerSchema>

/** What a command wants to reach: a service of a node. */
export const goalSchema = peerSchema.extend({
  service: z.string().max(63),
  ticket: z.string().exactOptional(),
})

export type Goal = z.output<typeof goalSchema>

/**
 * `ID/NAME`, `PEER/NAME` with a name under `peers` of the configuration, or a ticket.
 *
 * @throws {UsageError} `ERR_NATWORK_ARGUMENT`, `ERR_NATWORK_TICKET`
 */
export function parseGoal(text: string, config: Config): Goal {
  const slash = text.indexOf('/')
  if (slash > 0) return { ...parsePeer(text.slice(0, slash), config), service: text.slice(slash + 1) }
  if (text.trim().startsWith('natwork')) {
    const { id, addresses, service, text: ticket } = parseTicket(text)
    return { ...parsePeer(id, config), addresses: [...addresses], service, ticket }
  }
  throw new UsageError(
    'ERR_NATWORK_ARGUMENT',
    `"${text.slice(0, 80)}" is neither a ticket nor ID/NAME: write the id of the node, a slash and the name of its service`,
  )
}

/**
 * An id, or a name under `peers`.
 *
 * @throws {UsageError} `ERR_NATWORK_ARGUMENT`
 */
export function parsePeer(text: string, config: Config): Peer {
  const known = Object.entries(config.peers).find(([name, { id }]) => name === text || id === text)
  const exhaustive = readExhaustive(config.exhaustive)
  const more = exhaustive === undefined ? {} : { exhaustive }
  if (known !== undefined) return { ...known[1], ...more }
  if (isNodeId(text)) return { id: text, addresses: [], ...more }
  throw new UsageError(
    'ERR_NATWORK_ARGUMENT',
    `"${text.slice(0, 80)}" is no node id (\`natwork id\` prints it there), and no name under \`peers\` in the configuration`,
  )
}

/**
 * `NAME.PEER.natwork`, as programs write it to the proxy.
 *
 * @throws {UsageError} `ERR_NATWORK_ARGUMENT`
 */
export function parseHostName(host: string, config: Config): Goal {
  const [service, peer, suffix, ...more] = host.toLowerCase().replace(/\.$/, '').split('.')
  if (service === undefined || peer === undefined || suffix !== 'natwork' || more.length > 0) {
    throw new UsageError(
      'ERR_NATWORK_ARGUMENT',
      `this proxy reaches only hosts named NAME.ID.natwork, not "${host.slice(0, 255)}"`,
    )
  }
  return { ...parsePeer(peer, config), service }
}
