import type { SocketAddress } from '../../core/address.ts'
import type { Micros } from '../../core/machine.ts'
import type { StunClient } from '../client/client.ts'
import type { StunClientEvent, StunRequest, StunTransaction } from '../client/transaction.ts'
import { Method } from '../codec/registry.ts'
import type { StunView } from '../codec/view.ts'
import { StunUsageError, type StunPeerError } from '../errors.ts'

/** A request as an application makes it. */
export interface StunAsk extends Omit<Partial<StunRequest>, 'path' | 'reliable'> {
  /** Gives the request up; the promise then rejects with `ERR_NATWORK_STUN_ABORTED`, the signal's reason as cause. */
  readonly signal?: AbortSignal
}

/** A success response. */
export interface StunAnswer {
  readonly response: StunView
  /** Where it came from: after a redirection not the server that was asked. */
  readonly from: SocketAddress
  /** The round trip in milliseconds; undefined when a retransmission makes it ambiguous. */
  readonly rtt: number | undefined
}

/** Turns the events of a client into promises. */
export class Exchanges {
  readonly #client: StunClient
  readonly #wake: () => void
  // Bounded by the client's maxTransactions.
  readonly #waiting = new Map<StunTransaction, Waiting>()

  /** @param wake called after each mutation of the client. */
  constructor(client: StunClient, wake: () => void) {
    this.#client = client
    this.#wake = wake
  }

  start(now: Micros, request: Omit<StunRequest, 'method'>, { signal, ...ask }: StunAsk): Promise<StunAnswer> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(abortedError(signal))
        return
      }
      const transaction = this.#client.request(now, { method: Method.Binding, ...ask, ...request })
      const onAbort = (): void => {
        this.#client.cancel(transaction)
        this.#take(transaction)?.reject(abortedError(signal))
      }
      signal?.addEventListener('abort', onAbort, { once: true })
      this.#waiting.set(transaction, {
        resolve,
        reject,
        unlisten: () => signal?.removeEventListener('abort', onAbort),
      })
      this.#wake()
    })
  }

  settle(event: StunClientEvent): void {
    const waiting = this.#take(event.transaction)
    if (event.type === 'failed') {
      waiting?.reject(event.error)
    } else {
      const { response, path, rtt } = event
      waiting?.resolve({ response, from: path.remote, rtt: rtt === undefined ? undefined : rtt / 1000 })
    }
  }

  /** Ends everything that is open. */
  close(error: StunPeerError | StunUsageError): void {
    for (const transaction of [...this.#waiting.keys()]) {
      this.#client.cancel(transaction)
      this.#take(transaction)?.reject(error)
    }
  }

  #take(transaction: StunTransaction): Waiting | undefined {
    const waiting = this.#waiting.get(transaction)
    this.#waiting.delete(transaction)
    waiting?.unlisten()
    return waiting
  }
}

interface Waiting {
  readonly resolve: (answer: StunAnswer) => void
  readonly reject: (error: Error) => void
  readonly unlisten: () => void
}

export function abortedError(signal: AbortSignal | undefined): StunUsageError {
  return new StunUsageError('ERR_NATWORK_STUN_ABORTED', 'the STUN request was given up', {
    cause: signal?.reason,
  })
}
