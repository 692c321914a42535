import { PeerError } from '../core/errors.ts'
import type { SocketAddress } from '../core/address.ts'
import type { NodeId } from './node-id.ts'
import type { SecureStream } from './secure-stream.ts'

export type PipeState = 'opening' | 'open' | 'half-closed' | 'closed'

/** One use of a service: of ours by a peer (`in`), or of a peer's by us (`out`). */
export class Pipe {
  readonly id: string
  readonly direction: 'in' | 'out'
  readonly peer: NodeId
  readonly service: string
  /** When it was asked for. */
  readonly since = new Date()
  /** The ticket that opened it, if one did; not the secret. */
  readonly ticketId: string | undefined
  #stream: SecureStream | undefined
  #state: PipeState = 'opening'
  #abort = new AbortController()

  /** @internal */
  constructor(fields: Pick<Pipe, 'id' | 'direction' | 'peer' | 'service' | 'ticketId'>) {
    this.id = fields.id
    this.direction = fields.direction
    this.peer = fields.peer
    this.service = fields.service
    this.ticketId = fields.ticketId
  }

  /** Milliseconds since it was asked for. */
  get age(): number {
    return Date.now() - this.since.getTime()
  }

  get state(): PipeState {
    const stream = this.#stream
    if (this.#state !== 'open' || stream === undefined) return this.#state
    return stream.readableEnded || stream.writableEnded ? 'half-closed' : 'open'
  }

  /** Bytes from the peer, of the service's own data. */
  get bytesIn(): number {
    return this.#stream?.bytesIn ?? 0
  }

  /** Bytes to the peer, of the service's own data. */
  get bytesOut(): number {
    return this.#stream?.bytesOut ?? 0
  }

  /** The peer's transport address; undefined while it is not known. */
  get remote(): SocketAddress | undefined {
    return this.#stream?.remote
  }

  /** Resets the pipe at both ends. */
  close(reason: Error = new PeerError('ERR_NATWORK_RESET', 'the pipe was closed')): void {
    this.#abort.abort(reason)
    this.#stream?.destroy(reason)
  }

  toJSON(): object {
    const { id, direction, peer, service, age, state, bytesIn, bytesOut, remote, ticketId } = this
    return { id, direction, peer, service, age, state, bytesIn, bytesOut, remote, ticketId }
  }

  /** @internal Aborted by {@link close}. */
  get signal(): AbortSignal {
    return this.#abort.signal
  }

  /** @internal From here on, counting begins; `spoken` bytes of the service were written before. */
  opened(stream: SecureStream, spoken = 0): void {
    stream.startCounting(spoken)
    this.#stream = stream
    this.#state = 'open'
  }

  /** @internal */
  closed(): void {
    this.#state = 'closed'
  }
}
