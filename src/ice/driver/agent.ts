import { silentLogger, type Logger } from '../../core/logger.ts'
import { systemRng } from '../../core/ports.ts'
import type { Attachment, UdpEndpoint } from '../../socket/index.ts'
import type { IceEvent, IceSession } from '../api.ts'
import { IceMachine, type IceCounters } from '../machine.ts'
import type { LocalCandidate, SessionOptions } from '../types.ts'
import { hostCandidates } from './host-candidates.ts'
import { ExtraSockets } from './sockets.ts'

export interface IceAgentOptions {
  /** Everything but `sockets` and `release`, which the agent deals with. */
  readonly onEvent: (event: IceEvent) => void
  /** Extra local UDP ports open at once, over all sessions, 0–4096; default 512. A search between hard NATs uses up to 256. */
  readonly maxSockets?: number
  readonly logger?: Logger
}

/**
 * ICE on a UDP endpoint. Make it behind uTP and before whatever answers Binding requests of strangers (`StunServer`).
 *
 *     const agent = new IceAgent(endpoint, { onEvent })
 *     const session = agent.open({ controlling: true, local: { candidates: agent.hostCandidates() } })
 *     …send session.parameters and session.localCandidates to the peer, get its own…
 *     session.setRemote(endpoint.now(), theirs)
 *     agent.wake()
 */
export class IceAgent {
  readonly machine = new IceMachine({ rng: systemRng })
  readonly #endpoint: UdpEndpoint
  readonly #sockets: ExtraSockets
  readonly #attachment: Attachment

  constructor(endpoint: UdpEndpoint, options: IceAgentOptions) {
    const { onEvent, maxSockets = 512, logger = silentLogger } = options
    this.#endpoint = endpoint
    this.#sockets = new ExtraSockets(endpoint, maxSockets, logger)
    this.#attachment = endpoint.attach(this.machine, (event) => {
      if (event.type === 'sockets') void this.#openSockets(event.session, event.count)
      else if (event.type === 'release') this.#sockets.close(event.carrier)
      else onEvent(event)
    })
  }

  get counters(): IceCounters {
    return this.machine.counters
  }

  /** Extra ports open now. */
  get sockets(): number {
    return this.#sockets.size
  }

  /** Of the interfaces as they are now. */
  hostCandidates(): LocalCandidate[] {
    return hostCandidates(this.#endpoint.address)
  }

  /** @throws {IceUsageError} `ERR_NATWORK_ICE_STATE` when 4,096 sessions are open. */
  open(options: SessionOptions): IceSession {
    const session = this.machine.open(this.#endpoint.now(), options)
    this.wake()
    return session
  }

  /** Call after every call of a session's. */
  wake(): void {
    this.#attachment.wake()
  }

  /** Closes all sessions and extra ports; the endpoint stays open. */
  async close(): Promise<void> {
    for (const session of this.machine.sessions) session.close(this.#endpoint.now())
    this.#attachment.detach()
    await this.#sockets.closeAll()
  }

  async #openSockets(session: IceSession, count: number): Promise<void> {
    await this.#sockets.open(count, (carrier) => {
      session.addSocket(this.#endpoint.now(), carrier)
      this.wake()
    })
  }
}
