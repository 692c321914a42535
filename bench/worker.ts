// One side of one measurement, in a process of its own: `worker.js {"role":…}`, told by IPC when to read its counters.
import { loadCase, mustNotFail, type CaseName, type Counters } from './case.ts'
import { loadPeer, type At, type PeerName } from './peer.ts'

export type Task =
  | { readonly role: 'server'; readonly peer: PeerName; readonly case: CaseName; readonly host: string }
  | {
      readonly role: 'client'
      readonly peer: PeerName
      readonly case: CaseName
      readonly host: string
      readonly to: At
    }

/** What a worker says: where it listens, that its case came to its end, or its counters at a moment. */
export type Report = { readonly listening: At } | { readonly finished: true } | { readonly mark: Mark }

export interface Mark {
  /** Milliseconds on the machine's clock. */
  readonly at: number
  /** CPU seconds of this process, user and system. */
  readonly cpu: number
  /** Resident bytes; after a collection when the process was started with --expose-gc. */
  readonly rss: number
  readonly bytes: number
  readonly count: number
  /** Of what was finished since the last mark. */
  readonly times: readonly number[]
  /** Bytes of each stream so far, and its longest silence since the last mark in ms. */
  readonly streams: readonly { readonly bytes: number; readonly gap: number }[]
}

const task = JSON.parse(process.argv[2] ?? '') as Task
const counters: Counters = { bytes: 0, count: 0, times: [], held: [], streams: [] }
const peer = await loadPeer(task.peer)
const chosen = await loadCase(task.case)

process.on('message', () => {
  say({ mark: mark() })
})
process.on('disconnect', () => process.exit())

if (task.role === 'server') {
  const listening = await peer.listen(task.host, (stream) => {
    if (task.case !== 'setup') mustNotFail(stream)
    chosen.serve(stream, counters)
  })
  say({ listening })
} else {
  const dial = await peer.dialer(task.host)
  await chosen.run(async () => mustNotFail(await dial(task.to)), counters)
  say({ finished: true })
}

function mark(): Mark {
  globalThis.gc?.()
  const { user, system } = process.cpuUsage()
  const times = counters.times
  counters.times = []
  return {
    at: performance.timeOrigin + performance.now(),
    cpu: (user + system) / 1e6,
    rss: process.memoryUsage.rss(),
    bytes: counters.bytes,
    count: counters.count,
    times,
    streams: counters.streams.map((stream) => {
      const gap = Math.max(stream.gap, performance.now() - stream.last)
      stream.gap = 0
      return { bytes: stream.bytes, gap }
    }),
  }
}

function say(report: Report): void {
  process.send?.(report)
}
