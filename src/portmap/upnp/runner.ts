import type { Micros } from '../../core/machine.ts'
import type { Procedure } from './actions.ts'
import type { HttpRequest, HttpResponse } from './http.ts'

/** Runs one procedure at a time, request by request. */
export class Runner {
  #running: Running | undefined
  #pending: HttpRequest | undefined
  #requests = 0

  get isBusy(): boolean {
    return this.#running !== undefined
  }

  /** When the running procedure is given up; Infinity without one. */
  get until(): Micros {
    return this.#running?.until ?? Infinity
  }

  /**
   * Takes the place of what runs, which is forgotten.
   *
   * @param done gets the result; undefined when there is none at `until`.
   */
  run<Result>(
    now: Micros,
    until: Micros,
    procedure: Procedure<Result>,
    done: (now: Micros, result: Result | undefined) => void,
  ): void {
    const step = (at: Micros, response: HttpResponse): void => {
      const next = procedure.next(response)
      if (next.done === true) {
        this.cancel()
        done(at, next.value)
      } else {
        this.#requests += 1
        this.#pending = { ...next.value, id: this.#requests }
      }
    }
    this.#running = { until, step, giveUp: (at) => done(at, undefined) }
    step(now, undefined)
  }

  cancel(): void {
    this.#running = undefined
    this.#pending = undefined
  }

  /** The response to the request with this id; to any other one it comes too late. */
  handleResponse(now: Micros, id: number, response: HttpResponse): void {
    if (id === this.#requests) this.#running?.step(now, response)
  }

  handleTimeout(now: Micros): void {
    const running = this.#running
    if (running === undefined || now < running.until) return
    this.cancel()
    running.giveUp(now)
  }

  pollRequest(): HttpRequest | undefined {
    const request = this.#pending
    this.#pending = undefined
    return request
  }
}

interface Running {
  readonly until: Micros
  readonly step: (now: Micros, response: HttpResponse) => void
  readonly giveUp: (now: Micros) => void
}
