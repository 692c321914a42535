import type { Duplex } from 'node:stream'

/**
 * What is measured: one file in cases/. The runner starts a server and a client process, lets both warm up, and reads
 * the counters of both at two moments; only what happens in between counts.
 */
export interface Case {
  /** What the server does with each stream. */
  serve(stream: Duplex, counters: Counters): void
  /** What the client does; runs until the process is ended, or resolves when there is nothing more to do. */
  run(dial: () => Promise<Duplex>, counters: Counters): Promise<void>
}

export interface Counters {
  bytes: number
  /** Things finished: round trips, connections. */
  count: number
  /** Milliseconds that each of them took. */
  times: number[]
  /** Streams held on purpose. */
  held: Duplex[]
  /** Of each stream that is compared with the others. */
  streams: StreamCounter[]
}

export interface StreamCounter {
  bytes: number
  /** Milliseconds on the machine's clock. */
  last: number
  /** The longest time without a byte since the last mark, ms. */
  gap: number
}

export const caseNames = ['bulk', 'roundtrips', 'setup', 'idle', 'many', 'crowd'] as const
export type CaseName = (typeof caseNames)[number]

export async function loadCase(name: CaseName): Promise<Case> {
  const module = (await import(`./cases/${name}.js`)) as { default: Case }
  return module.default
}

/** Errors of a peer end the worker, and with it the run: a benchmark of something broken says nothing. */
export function mustNotFail(stream: Duplex): Duplex {
  return stream.on('error', (error) => {
    throw error
  })
}
