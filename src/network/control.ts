import type { Duplex } from 'node:stream'
import { z } from 'zod'
import { PeerError } from '../core/errors.ts'
import { isNodeId, type NodeId } from './node-id.ts'
import { verifyNodeInfo, type NodeInfo } from './node-info.ts'
import { readMessage, writeMessage } from './protocol.ts'

/**
 * What nodes that know each other say on a control stream: questions by the dialler, one answer each, in order.
 * `announce`: "this is where I am now". `find`: "do you know where that node is?"
 */
const questionSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('announce'), info: z.unknown() }),
  z.object({ type: z.literal('find'), id: z.string().max(64).refine(isNodeId) }),
])

const answerSchema = z.object({ info: z.unknown().optional() })

/** Tells the node at the other end this node's record. */
export async function announce(control: Duplex, info: NodeInfo): Promise<void> {
  await question(control, { type: 'announce', info })
}

/** Asks for a node's record. @returns a verified one, or undefined when the other does not know. */
export async function find(control: Duplex, id: NodeId): Promise<NodeInfo | undefined> {
  const { info } = await question(control, { type: 'find', id })
  if (info === undefined) return undefined
  const verified = verifyNodeInfo(info)
  if (verified.id !== id) throw new PeerError('ERR_NATWORK_NODE_INFO', `asked for ${id}, got ${verified.id}`)
  return verified
}

async function question(
  control: Duplex,
  message: z.input<typeof questionSchema>,
): Promise<z.infer<typeof answerSchema>> {
  writeMessage(control, message)
  const answer = await readMessage(control, answerSchema)
  if (answer === undefined) throw new PeerError('ERR_NATWORK_PROTOCOL', 'a control stream ended unanswered')
  return answer
}

export interface ControlHandler {
  /** A verified record by the very node that speaks: nobody can announce another one. */
  announced(info: NodeInfo): Promise<void>
  find(id: NodeId): Promise<NodeInfo | undefined>
}

/** Answers until the peer ends, one question at a time, so that a peer cannot pile up work. */
export async function serveControl(control: Duplex, peer: NodeId, handler: ControlHandler): Promise<void> {
  for (;;) {
    const asked = await readMessage(control, questionSchema)
    if (asked === undefined) break
    if (asked.type === 'announce') {
      const info = verifyNodeInfo(asked.info)
      if (info.id !== peer) {
        throw new PeerError('ERR_NATWORK_NODE_INFO', `${peer} announced the record of ${info.id}`)
      }
      await handler.announced(info)
      writeMessage(control, {})
    } else {
      writeMessage(control, { info: await handler.find(asked.id) })
    }
  }
  control.end()
}
