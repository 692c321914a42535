import { familyOf, formatAddress, type SocketAddress } from '../core/address.ts'
import type { Logger } from '../core/logger.ts'
import { PortMapper, type PortMapping } from '../portmap/index.ts'
import type { PublicAddress } from '../stun/index.ts'

/** The node's own port on the routers in front of it, where its owner wants them asked. */
export class MappedPort {
  readonly #mapper: PortMapper | undefined
  #useful = ''

  constructor(isWanted: boolean, logger: Logger) {
    this.#mapper = isWanted ? new PortMapper({ logger }) : undefined
  }

  /** Those by which others can come, as far as is known. */
  get mappings(): PortMapping[] {
    return this.#mapper?.mappings.filter(({ useful }) => useful) ?? []
  }

  /**
   * Does not wait for the routers.
   *
   * @param onChange to be called when {@link mappings} has changed.
   */
  async start(
    { address: host, port }: SocketAddress,
    signal: AbortSignal,
    onChange: () => void,
  ): Promise<void> {
    const look = (): void => {
      const useful = this.mappings.map(({ external }) => formatAddress(external)).join(' ')
      if (useful === this.#useful) return
      this.#useful = useful
      onChange()
    }
    this.#mapper?.on('mapped', look).on('lost', look)
    await this.#mapper?.start({ host, port, signal })
  }

  /** What STUN servers see of us tells whether a mapping is of use. */
  observe(seen: PublicAddress): void {
    const address = seen.known ? seen.address : seen.seen[0]
    if (address !== undefined) this.#mapper?.observe(familyOf(address.address), address.address)
  }

  async stop(): Promise<void> {
    await this.#mapper?.stop()
  }
}
