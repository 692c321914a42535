import type { KeyObject } from 'node:crypto'
import type { Duplex } from 'node:stream'
import { NatworkError, SystemError } from '../core/errors.ts'
import type { Logger } from '../core/logger.ts'
import type { NetworkContext } from './context.ts'
import { Scope } from './deadline.ts'
import { isNodeId, type NodeId } from './node-id.ts'
import { verifyNodeInfo, type NodeInfo } from './node-info.ts'

/** How many of the caller's nodes are asked for help; the rest of the list is not read. */
export const maxHelpers = 16

/**
 * The caller's seven callbacks, each bounded in time and its result checked. All throw `ERR_NATWORK_CONTEXT`, naming the
 * callback, or the NatworkError that the callback itself threw.
 */
export class GuardedContext {
  readonly logger: Logger
  readonly #context: NetworkContext
  readonly #timeout: number

  constructor(context: NetworkContext, timeout: number) {
    this.#context = context
    this.#timeout = timeout
    this.logger = guardLogger(context.logger)
  }

  listNodes(signal?: AbortSignal): Promise<NodeId[]> {
    return this.#call('listNodes', signal, async () => {
      const given = this.#context.listNodes()
      const nodes: NodeId[] = []
      const iterable = Symbol.asyncIterator in given ? given : await given
      for await (const id of iterable) {
        if (!isNodeId(id)) throw new TypeError(`"${String(id)}" is not a node id`)
        if (nodes.push(id) === maxHelpers) break
      }
      return nodes
    })
  }

  getNode(id: NodeId, signal?: AbortSignal): Promise<NodeInfo | undefined> {
    return this.#call('getNode', signal, async () => {
      const info = await this.#context.getNode(id)
      if (info === undefined) return undefined
      const verified = verifyNodeInfo(info)
      if (verified.id !== id) throw new TypeError(`it gave the record of ${verified.id} for ${id}`)
      return verified
    })
  }

  updateNode(info: NodeInfo, signal: AbortSignal): Promise<void> {
    return this.#call('updateNode', signal, () => this.#context.updateNode(info))
  }

  connectToNode(id: NodeId, dial: () => Promise<Duplex>, signal: AbortSignal): Promise<Duplex> {
    return this.#call('connectToNode', signal, () => this.#context.connectToNode(id, { signal, dial }))
  }

  getSelf(signal?: AbortSignal): Promise<NodeInfo> {
    return this.#call('getSelf', signal, async () => verifyNodeInfo(await this.#context.getSelf()))
  }

  getPrivateKey(signal?: AbortSignal): Promise<KeyObject> {
    return this.#call('getPrivateKey', signal, () => this.#context.getPrivateKey())
  }

  async #call<T>(
    name: keyof NetworkContext,
    signal: AbortSignal | undefined,
    task: () => Promise<T>,
  ): Promise<T> {
    const scope = new Scope(this.#timeout, [signal], () => {
      return new SystemError('ERR_NATWORK_CONTEXT', `${name} did not answer within ${this.#timeout} ms`)
    })
    try {
      return await scope.run(Promise.resolve().then(task))
    } catch (error) {
      if (error instanceof NatworkError || signal?.aborted === true) throw error
      throw new SystemError('ERR_NATWORK_CONTEXT', `${name} failed: ${messageOf(error)}`, { cause: error })
    } finally {
      scope.close()
    }
  }
}

// A logger that throws must not take a pipe with it, and there is nowhere left to report it.
function guardLogger(logger: Logger): Logger {
  const guard =
    (level: keyof Logger) =>
    (message: string, fields?: object): void => {
      try {
        logger[level](message, fields)
      } catch {
        // See above.
      }
    }
  return { debug: guard('debug'), info: guard('info'), warn: guard('warn'), error: guard('error') }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
