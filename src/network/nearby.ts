import type { SocketAddress } from '../core/address.ts'
import type { Logger } from '../core/logger.ts'
import type { Discovery } from '../mdns/index.ts'
import { isNodeId, type NodeId } from './node-id.ts'

/** A node that is said to be on the same network. Nothing of it is proven before it is connected with. */
export interface NearbyNode {
  readonly id: NodeId
  /** UDP addresses, likeliest first. */
  readonly addresses: readonly SocketAddress[]
}

/** The nodes on the networks of this machine, where its owner wants them looked for. */
export class Nearby {
  readonly #wanted: boolean | 'browse'
  #discovery: Discovery | undefined

  constructor(wanted: boolean | 'browse') {
    this.#wanted = wanted
  }

  get nodes(): NearbyNode[] {
    const all = this.#discovery?.all ?? []
    return all.flatMap(({ label, places }) => (isNodeId(label) ? [{ id: label, addresses: places }] : []))
  }

  /** @param onChange to be called when {@link nodes} has changed. */
  async start(id: NodeId, bound: SocketAddress, logger: Logger, onChange: () => void): Promise<void> {
    if (this.#wanted === false) return
    // Loaded only here: who does not want it does not wait for it.
    const { Discovery } = await import('../mdns/index.ts')
    const announce = this.#wanted === true
    this.#discovery = new Discovery({ bound, label: id, isLabel: isNodeId, announce, onChange, logger })
    await this.#discovery.look()
  }

  /** Where a node may be on the networks of this machine; asks there when nothing is known. */
  async find(id: NodeId, signal: AbortSignal): Promise<readonly SocketAddress[]> {
    return (await this.#discovery?.find(id, signal)) ?? []
  }

  interfacesChanged(): void {
    void this.#discovery?.look()
  }

  async stop(): Promise<void> {
    await this.#discovery?.stop()
  }
}
