import cluster, { type Worker } from 'node:cluster'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { SystemError, UsageError, type Code, type Logger, type SocketAddress } from '../../core/index.ts'
import { systemClock } from '../../core/ports.ts'
import { HeldPort } from '../../socket/index.ts'
import { defaultLimits, type TurnListen } from '../../turn/index.ts'
import { holdPorts } from './held-ports.ts'
import { Ledger } from './ledger.ts'
import type { FromWorker, ToWorker, WorkerSettings } from './messages.ts'
import type { RunningRelay } from './running.ts'
import { mergeSnapshots, type RelaySnapshot } from './snapshot.ts'

/**
 * A relay of several processes. This one binds the UDP ports, a socket for each worker (SO_REUSEPORT: the kernel gives
 * each client to one of them by a hash of its address, always the same one), and holds them, so that clients stay where
 * they are when a worker dies and is started again. TCP and TLS connections go round robin (node:cluster). It counts
 * what all have together, and adds up what they tell.
 */
export class RelayWorkers implements RunningRelay {
  readonly #logger: Logger
  readonly #admin: SocketAddress | undefined
  readonly #listen: readonly TurnListen[]
  readonly #held: readonly HeldPort[]
  readonly #places: Place[]
  readonly #ledger: Ledger
  readonly #startedAt = systemClock.now()
  /** Who waits for a snapshot. Bounded by the admin port's connections, for each worker. */
  readonly #asked = new Map<number, (snapshot: RelaySnapshot | undefined) => void>()
  /** Of each place what its dead workers had counted when they were last asked. Bounded by the number of workers. */
  readonly #past = new Map<number, RelaySnapshot>()
  #settings: WorkerSettings
  #nextAsk = 1
  #stopping = false
  #restarts = 0
  streamAddresses: readonly SocketAddress[] = []

  /**
   * @param admin the port of operators, which no peer may reach.
   * @throws {UsageError} `ERR_NATWORK_RELAY_WORKERS` where one process is all there can be.
   * @throws {SystemError} what the workers met.
   */
  static async start(
    settings: WorkerSettings,
    workers: number,
    admin: SocketAddress | undefined,
    logger: Logger,
  ): Promise<RelayWorkers> {
    const bind = (at: SocketAddress): Promise<HeldPort> => HeldPort.bind(at, workers)
    const { held, listen } = await holdPorts(settings.config.listen, bind).catch((error: unknown) => {
      throw isDriver(error) ? noWorkers(error) : error
    })
    const relay = new RelayWorkers(settings, workers, { admin, logger, held, listen })
    try {
      await Promise.all(relay.#places.map((place) => relay.#fork(place)))
    } catch (error) {
      await relay.close()
      throw error
    }
    return relay
  }

  private constructor(settings: WorkerSettings, workers: number, { admin, logger, held, listen }: Pieces) {
    this.#settings = settings
    this.#logger = logger
    this.#admin = admin
    this.#held = held
    this.#listen = listen
    this.#ledger = new Ledger({ ...defaultLimits, ...limitsOf(settings) })
    this.#places = Array.from({ length: workers }, (_, n) => ({
      number: n + 1,
      worker: undefined,
      startedAt: 0,
      failures: 0,
      restart: undefined,
      last: undefined,
    }))
  }

  get udpAddresses(): readonly SocketAddress[] {
    return this.#held.map(({ address }) => address)
  }

  /** Process ids by place; undefined where none runs at the moment. */
  get pids(): readonly (number | undefined)[] {
    return this.#places.map(({ worker }) => worker?.process.pid)
  }

  /** New settings for all, and for those that start from now on. */
  configure(settings: WorkerSettings): void {
    this.#settings = settings
    this.#ledger.limits = { ...defaultLimits, ...limitsOf(settings) }
    this.#tellAll({ type: 'configure', settings })
  }

  async snapshot(): Promise<RelaySnapshot> {
    const answers = await Promise.all(
      this.#places.map((place) =>
        place.worker === undefined ? Promise.resolve(undefined) : this.#ask(place),
      ),
    )
    for (const [n, answer] of answers.entries()) {
      const place = this.#places[n]
      if (place !== undefined && answer !== undefined) place.last = answer
    }
    return mergeSnapshots(
      answers.filter((answer) => answer !== undefined),
      [...this.#past.values()],
      { uptime: (systemClock.now() - this.#startedAt) / 1e6, restarts: this.#restarts },
    )
  }

  async drain(milliseconds: number, alternate: SocketAddress | undefined, begun: () => void): Promise<void> {
    this.#stopping = true
    for (const { restart } of this.#places) clearTimeout(restart)
    const draining = this.#all('draining')
    const drained = this.#all('drained')
    this.#tellAll({ type: 'drain', milliseconds, ...(alternate !== undefined && { alternate }) })
    await draining
    begun()
    await drained
  }

  /** Ends at once. */
  async close(): Promise<void> {
    this.#stopping = true
    await Promise.all(
      this.#places.map(async ({ worker, restart }) => {
        clearTimeout(restart)
        if (worker === undefined) return
        const gone = new Promise((resolve) => worker.once('exit', resolve))
        const tooLong = setTimeout(() => worker.process.kill('SIGKILL'), CLOSE_TIMEOUT)
        send(worker, { type: 'close' })
        await gone
        clearTimeout(tooLong)
      }),
    )
    await Promise.all(this.#held.map((port) => port.close()))
  }

  /** Resolves when it serves. */
  #fork(place: Place): Promise<void> {
    const inherited = this.#held.map((port) => port.fdsOf(place.number - 1))
    cluster.setupPrimary({
      exec: fileURLToPath(new URL(`./worker${extname(import.meta.url)}`, import.meta.url)),
      args: [],
      stdio: ['ignore', 'inherit', 'inherit', 'ipc', ...inherited.flat()],
    })
    const worker = cluster.fork()
    place.worker = worker
    place.startedAt = systemClock.now()
    return new Promise((resolve, reject) => {
      worker.on('message', (message: FromWorker) => {
        if (message.type === 'ready') this.#start(place, worker)
        else if (message.type === 'failed') {
          reject(new SystemError(message.code as Code, message.message))
          worker.process.kill('SIGKILL')
        } else if (message.type === 'up') {
          this.streamAddresses = message.streams
          resolve()
        } else this.#handle(place, worker, message)
      })
      worker.once('exit', (code: number | null, signal: string | null) => {
        const why = signal ?? String(code)
        reject(new SystemError('ERR_NATWORK_RELAY_WORKERS', `a worker ended: ${why}`))
        this.#onExit(place, why)
      })
    })
  }

  #start(place: Place, worker: Worker): void {
    if (this.#stopping) {
      worker.process.kill('SIGKILL')
      return
    }
    // The child's descriptors in the order of its `stdio`.
    let fd = FIRST_INHERITED
    const inherited = this.#held.map((port) => port.fdsOf(place.number - 1).map(() => fd++))
    send(worker, {
      type: 'start',
      worker: place.number,
      workers: this.#places.length,
      settings: this.#settings,
      listen: this.#listen,
      inherited,
      ...(this.#admin !== undefined && { admin: this.#admin }),
      relayed: this.#ledger.relayedElsewhere(place.number),
    })
  }

  #handle(place: Place, worker: Worker, message: FromWorker): void {
    const { number } = place
    switch (message.type) {
      case 'admit': {
        const not = this.#ledger.admit(number, message.account, message.source)
        send(worker, { type: 'admitted', id: message.id, ...(not !== undefined && { not }) })
        break
      }
      case 'news': {
        const { released, took, freed } = message
        for (const [account, source] of released) this.#ledger.release(number, account, source)
        this.#ledger.relays(number, took, freed)
        if (took.length + freed.length > 0) this.#tellAll({ type: 'relayed', took, freed }, place)
        break
      }
      case 'snapshot':
        this.#asked.get(message.id)?.(message.snapshot)
        this.#asked.delete(message.id)
        break
      case 'configured':
        if (message.error !== undefined)
          this.#logger.error('settings not taken: the old ones hold', {
            worker: number,
            error: message.error,
          })
    }
  }

  #onExit(place: Place, why: string): void {
    const { number, last } = place
    place.worker = undefined
    const freed = this.#ledger.forget(number)
    if (freed.length > 0) this.#tellAll({ type: 'relayed', took: [], freed }, place)
    if (this.#stopping) return
    if (last !== undefined) {
      const before = this.#past.get(number)
      this.#past.set(number, mergeSnapshots([], before === undefined ? [last] : [before, last], none))
      place.last = undefined
    }
    const stayed = systemClock.now() - place.startedAt
    place.failures = stayed > STABLE ? 1 : place.failures + 1
    const wait = Math.min(FIRST_WAIT * 2 ** (place.failures - 1), LONGEST_WAIT)
    this.#logger.error('a worker ended: its clients have to allocate again', {
      worker: number,
      reason: why,
      restartIn: wait / 1_000,
    })
    place.restart = setTimeout(() => {
      this.#restarts++
      this.#fork(place).then(
        () => {
          this.#logger.info('a worker was started again', { worker: number })
        },
        // It is told, and tried again, where the exit is handled.
        () => undefined,
      )
    }, wait)
  }

  #ask(place: Place): Promise<RelaySnapshot | undefined> {
    const id = this.#nextAsk++
    return new Promise((resolve) => {
      const done = (snapshot: RelaySnapshot | undefined): void => {
        clearTimeout(tooLong)
        this.#asked.delete(id)
        resolve(snapshot)
      }
      // One that starts, or hangs.
      const tooLong = setTimeout(done, ASK_TIMEOUT, undefined)
      this.#asked.set(id, done)
      if (place.worker !== undefined) send(place.worker, { type: 'snapshot', id })
    })
  }

  /** Until each worker has told this, or is gone. */
  async #all(what: FromWorker['type']): Promise<void> {
    await Promise.all(
      this.#places.map(
        ({ worker }) =>
          new Promise<void>((resolve) => {
            if (worker === undefined || !worker.isConnected()) resolve()
            worker?.once('exit', () => {
              resolve()
            })
            worker?.on('message', ({ type }: FromWorker) => {
              if (type === what) resolve()
            })
          }),
      ),
    )
  }

  #tellAll(message: ToWorker, but?: Place): void {
    for (const place of this.#places) {
      if (place !== but && place.worker !== undefined) send(place.worker, message)
    }
  }
}

/** Where a worker is, or will be again. */
interface Place {
  readonly number: number
  worker: Worker | undefined
  startedAt: number
  /** Deaths in a row. */
  failures: number
  restart: NodeJS.Timeout | undefined
  last: RelaySnapshot | undefined
}

interface Pieces {
  readonly admin: SocketAddress | undefined
  readonly logger: Logger
  readonly held: readonly HeldPort[]
  readonly listen: readonly TurnListen[]
}

const none = { uptime: 0, restarts: 0 }
/** Behind stdin, stdout, stderr and the channel. */
const FIRST_INHERITED = 4
const FIRST_WAIT = 100
const LONGEST_WAIT = 10_000
/** Microseconds after which a worker's death is the first of a row. */
const STABLE = 60e6
const ASK_TIMEOUT = 2_000
const CLOSE_TIMEOUT = 5_000

function send(worker: Worker, message: ToWorker): void {
  // It may be gone: its exit is told elsewhere.
  if (worker.isConnected()) worker.send(message, () => undefined)
}

function limitsOf({ config }: WorkerSettings): object {
  return Object.fromEntries(Object.entries(config.limits).filter(([, value]) => value !== undefined))
}

function isDriver(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ERR_NATWORK_SOCKET_DRIVER'
}

function noWorkers(cause: unknown): UsageError {
  return new UsageError(
    'ERR_NATWORK_RELAY_WORKERS',
    'several workers need the native UDP driver (Linux): set `workers: 1`, or run a relay for each core',
    { cause },
  )
}
