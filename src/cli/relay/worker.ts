// One of several processes of `natwork relay`: see workers.ts, whose messages it lives by.
import { silentLogger, type Logger } from '../../core/index.ts'
import {
  TurnService,
  type NotAdmitted,
  type Siblings,
  type TurnListen,
  type TurnServiceOptions,
} from '../../turn/index.ts'
import { asNatworkError } from '../errors.ts'
import { createLogger } from '../log.ts'
import { serviceOptions } from './config.ts'
import { keyOf, type FromWorker, type ToWorker, type WorkerSettings } from './messages.ts'
import { snapshotOf } from './snapshot.ts'

let service: TurnService | undefined
let starting: Promise<void> | undefined
let worker = 0
let workers = 1
let logger: Logger = silentLogger

// A terminal, or systemd, gives these to all processes: what they mean is the first one's to say.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined)
process.on('disconnect', () => process.exit(1))
process.on('message', (message: ToWorker) => {
  void handle(message)
})
tell({ type: 'ready' })

async function handle(message: ToWorker): Promise<void> {
  switch (message.type) {
    case 'start':
      starting = start(message)
      await starting
      break
    case 'configure':
      configure(message.settings)
      break
    case 'admitted':
      admissions.get(message.id)?.(message.not)
      admissions.delete(message.id)
      break
    case 'relayed':
      for (const one of message.took) elsewhere.add(one)
      for (const one of message.freed) elsewhere.delete(one)
      break
    case 'drain':
      await starting
      await drain(message)
      break
    case 'snapshot':
      if (service === undefined) break
      tell({ type: 'snapshot', id: message.id, snapshot: snapshotOf(service, worker) })
      break
    case 'close':
      await service?.close()
      process.disconnect()
  }
}

async function start(message: ToWorker & { type: 'start' }): Promise<void> {
  const { settings, listen, inherited, admin, relayed } = message
  worker = message.worker
  workers = message.workers
  for (const one of relayed) elsewhere.add(one)
  logger = loggerOf(settings)
  try {
    service = await TurnService.listen({
      ...optionsOf(settings, listen),
      oldChannels: settings.oldChannels || settings.config.oldChannels,
      inherited,
      siblings,
      logger,
    })
    if (admin !== undefined) service.host.addListening(admin.address, admin.port)
    tell({ type: 'up', streams: service.streamAddresses })
  } catch (error) {
    const known = asNatworkError(error)
    if (known === undefined) throw error
    tell({ type: 'failed', code: known.code, message: known.message })
  }
}

async function drain({ milliseconds, alternate }: ToWorker & { type: 'drain' }): Promise<void> {
  const drained = service?.drain(milliseconds, alternate)
  tell({ type: 'draining' })
  await drained
  tell({ type: 'drained' })
}

function configure(settings: WorkerSettings): void {
  try {
    const { users, peers, tls, ...rest } = optionsOf(settings, [])
    service?.configure({ ...rest, users, ...(peers && { peers }), ...(tls && { tls }) })
    tell({ type: 'configured' })
  } catch (error) {
    tell({ type: 'configured', error: (error as Error).message })
  }
}

/** What cannot be counted together is divided. */
function optionsOf(
  { config, file }: WorkerSettings,
  listen: readonly TurnListen[],
): Omit<TurnServiceOptions, 'logger'> {
  const {
    limits = {},
    rateLimit,
    maxConnections = 4_096,
    maxConnectionsPerSource = 256,
    ...options
  } = serviceOptions(config, file)
  const { bandwidth, bandwidthPerUser, bandwidthPerSource } = limits
  const share = (whole: number): number => Math.ceil(whole / workers)
  const perSecond = rateLimit === undefined || rateLimit === false ? 200 : rateLimit.perSecond
  const burst = rateLimit === undefined || rateLimit === false ? 1_000 : rateLimit.burst
  return {
    ...options,
    listen,
    limits: {
      ...limits,
      ...(bandwidth !== undefined && { bandwidth: share(bandwidth) }),
      ...(bandwidthPerUser !== undefined && { bandwidthPerUser: share(bandwidthPerUser) }),
      ...(bandwidthPerSource !== undefined && { bandwidthPerSource: share(bandwidthPerSource) }),
    },
    rateLimit: rateLimit === false ? false : { perSecond: share(perSecond), burst: share(burst) },
    maxConnections: share(maxConnections),
    maxConnectionsPerSource: share(maxConnectionsPerSource),
  }
}

function loggerOf({ config }: WorkerSettings): Logger {
  const plain = createLogger(config.logLevel, process.stderr, false)
  return {
    debug: (text, fields) => {
      plain.debug(text, { worker, ...fields })
    },
    info: (text, fields) => {
      plain.info(text, { worker, ...fields })
    },
    warn: (text, fields) => {
      plain.warn(text, { worker, ...fields })
    },
    error: (text, fields) => {
      plain.error(text, { worker, ...fields })
    },
  }
}

/** Relayed transport addresses of the other processes. */
const elsewhere = new Set<string>()
/** Who waits for an answer. Bounded by the limit of allocations. */
const admissions = new Map<number, (not: NotAdmitted | undefined) => void>()
let nextAdmission = 1
/** What the others need to know, told once in a turn of the loop. */
let news: { released: [string, string][]; took: string[]; freed: string[] } | undefined

const siblings: Siblings = {
  admit: (account, source) =>
    new Promise((resolve) => {
      const id = nextAdmission++
      admissions.set(id, resolve)
      tellNews()
      tell({ type: 'admit', id, account, source })
    }),
  release: (account, source) => {
    tellSoon().released.push([account, source])
  },
  isRelayed: (address, port) => elsewhere.has(keyOf({ address, port })),
  relays: (at, ours) => {
    const { took, freed } = tellSoon()
    if (ours) took.push(keyOf(at))
    else freed.push(keyOf(at))
  },
}

function tellSoon(): NonNullable<typeof news> {
  if (news === undefined) {
    news = { released: [], took: [], freed: [] }
    setImmediate(tellNews)
  }
  return news
}

function tellNews(): void {
  if (news !== undefined) tell({ type: 'news', ...news })
  news = undefined
}

function tell(message: FromWorker): void {
  if (process.connected) process.send?.(message)
}
