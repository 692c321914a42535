import type { KeyObject } from 'node:crypto'
import { silentLogger, type Logger } from '../core/logger.ts'
import type { NetworkContext } from '../network/context.ts'
import { createIdentity, generatePrivateKey, loadOrCreatePrivateKey } from '../network/identity.ts'
import { signNodeInfo } from '../network/node-info.ts'
import type { Directory } from './directory.ts'

export interface ContextOptions {
  readonly directory: Directory
  /**
   * The key itself, or the file it is in (made on first use, mode 0600). Without it every context is a new node with a
   * new id.
   */
  readonly privateKey?: KeyObject | string
  /** By default nothing is logged. */
  readonly logger?: Logger
}

/**
 * All seven things that a network needs, for people who bring nothing but a directory. Pass `directory.tickets` to the
 * network too, so that tickets live as long as the directory.
 */
export function createContext(options: ContextOptions): NetworkContext {
  const { directory, logger = silentLogger } = options
  let key: Promise<KeyObject> | undefined
  const getPrivateKey = (): Promise<KeyObject> => {
    key ??= loadKey(options.privateKey).catch((error: unknown) => {
      key = undefined // The next start may find the file mended.
      throw error
    })
    return key
  }
  return {
    logger,
    getPrivateKey,
    async getSelf() {
      const identity = await createIdentity(await getPrivateKey())
      const known = await directory.get(identity.id)
      return known ?? signNodeInfo(identity, { addresses: [], sequence: 0, expires: 0 })
    },
    listNodes: () => directory.list(),
    getNode: (id) => directory.get(id),
    async updateNode(info) {
      await directory.put(info)
    },
    connectToNode: (_id, { dial }) => dial(),
  }
}

async function loadKey(given: KeyObject | string | undefined): Promise<KeyObject> {
  if (given === undefined) return generatePrivateKey()
  return typeof given === 'string' ? loadOrCreatePrivateKey(given) : given
}
