import { createContext, memoryDirectory } from '../directory/index.ts'
import { Network } from '../network/index.ts'
import { explainPeer, pingPeer, startForwarding } from './forwarding.ts'
import { keyPath } from './folders.ts'
import type { Reach } from './reach.ts'
import type { Settings } from './shell.ts'

/**
 * A network that lives as long as the command: the key of the node here, any free port, nothing shared. Its directory
 * is in memory, since the one on disk belongs to the node that may be started meanwhile.
 */
export async function openOwnReach(
  { folders, config, logger }: Settings,
  signal: AbortSignal,
): Promise<Reach> {
  const context = createContext({ directory: memoryDirectory(), privateKey: keyPath(folders), logger })
  const network = new Network(context, {
    host: config.host,
    port: 0,
    stun: config.stun,
    publicAddresses: config.publicAddresses,
    helpers: config.helpers,
    // It shares nothing: nobody needs to find it.
    mdns: config.mdns !== false && 'browse',
    exhaustive: config.exhaustive,
  })
  const stop = (): void => void network.stop()
  signal.addEventListener('abort', stop, { once: true })
  try {
    await network.start()
  } catch (error) {
    signal.throwIfAborted()
    throw error
  } finally {
    signal.removeEventListener('abort', stop)
  }
  return {
    open: (goal, aborted) => network.connect(goal.id, { ...goal, signal: aborted }),
    forward: (goal, at, onEvent) => startForwarding(network, goal, at, onEvent),
    ping: (peer, aborted) => pingPeer(network, peer, aborted),
    why: (peer, aborted) => explainPeer(network, peer, aborted),
    close: () => network.stop(),
  }
}
