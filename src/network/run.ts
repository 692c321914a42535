import { formatAddress, sameAddress, type SocketAddress } from '../core/address.ts'
import { UsageError } from '../core/errors.ts'
import type { PublicAddress } from '../stun/index.ts'
import { UtpServer } from '../utp/driver/index.ts'
import { Acceptor } from './acceptor.ts'
import { ControlDesk } from './control-desk.ts'
import { ControlPool } from './control-pool.ts'
import type { NetworkContext } from './context.ts'
import { unlessAborted } from './deadline.ts'
import { Dialler } from './dialler.ts'
import { asError } from './errors.ts'
import type { Forward } from './forward.ts'
import { GuardedContext } from './guarded-context.ts'
import { parseHelper } from './helper-reference.ts'
import { createIdentity } from './identity.ts'
import { reachableAddresses } from './local-addresses.ts'
import type { NodeId } from './node-id.ts'
import { maxAddresses, type NodeInfo } from './node-info.ts'
import type { NetworkLimits, NetworkOptions, NetworkTimeouts } from './options.ts'
import { Publisher } from './publisher.ts'
import type { Services } from './services.ts'
import type { Pipes, Session } from './session.ts'
import { StunTraversal } from './stun-traversal.ts'
import type { TicketStore } from './ticket-store.ts'

interface RunOptions {
  readonly context: NetworkContext
  readonly options: NetworkOptions
  readonly limits: NetworkLimits
  readonly timeouts: NetworkTimeouts
  readonly services: Services
  readonly tickets: TicketStore
  readonly pipes: Pipes
  /** Aborted by stop(). */
  readonly signal: AbortSignal
  readonly emit: Session['emit']
}

/** A network between start and stop. */
export interface Run {
  readonly session: Session
  readonly dialler: Dialler
  readonly forwards: Set<Forward>
  /** This node's own record. */
  readonly self: NodeInfo
  readonly addresses: () => SocketAddress[]
  readonly publicAddress: () => PublicAddress
  close(): Promise<void>
}

/** All that start() does. When it rejects, everything that it opened is closed again. */
export async function openRun(given: RunOptions): Promise<Run> {
  const { options, limits, timeouts, services, tickets, pipes, signal, emit } = given
  const context = new GuardedContext(given.context, timeouts.callback)
  const { logger } = context
  const toClose: (() => Promise<void>)[] = []
  // Until there is a record, nothing has to be brought up to date.
  let publisher: Publisher | undefined
  const close = async (): Promise<void> => {
    for (const part of toClose.splice(0).reverse()) {
      await part().catch((error: unknown) => {
        logger.error('stopping: a part did not end well', { error: asError(error).message })
      })
    }
  }
  try {
    const identity = await createIdentity(await context.getPrivateKey(signal))
    const last = await context.getSelf(signal)
    if (last.id !== identity.id) throw notSelf(last.id, identity.id)

    const forwards = new Set<Forward>()
    toClose.push(() => closePipes(pipes, forwards))

    const utp = new UtpServer({
      host: options.host ?? '0.0.0.0',
      port: options.port ?? 1315,
      limits: options.utp ?? {},
      onConnection: (raw) => acceptor.accept(raw),
      logger,
    })
    const session: Session = {
      ...{ identity, context, utp, pipes, services, tickets, limits, timeouts, signal, emit },
    }
    const exchange =
      options.help === true ? new Exchange({ neighbours: () => helpers.channels }) : undefined
    const desk = new ControlDesk(session, {
      onSignal: (body, channel) => signaller.receive(body, channel),
      ...(exchange && { exchange }),
    })
    const acceptor = new Acceptor(session, desk, exchange !== undefined)
    toClose.push(() => utp.stop())
    await utp.start({ signal })
    signal.throwIfAborted()

    const traversal = options.traversal ?? new StunTraversal(options.stun ?? [], logger)
    const onChange = (): void => {
      publisher?.refresh()
      if (publisher !== undefined) emit('publicAddress', traversal.publicAddress)
    }
    toClose.push(() => traversal.stop())
    await unlessAborted(traversal.start(utp.endpoint, signal, onChange), signal)

    const pool = new ControlPool(session, {
      dial: (id, given, ended) => dialler.dialControl(id, given, ended),
      handler: desk.answer,
      record: () => published.record,
    })
    toClose.push(() => pool.stop())
    const dialler = new Dialler(session, pool)
    const helpers = new Helpers(session, pool, configured, onChange)
    const addresses = (): SocketAddress[] =>
      withPublic(traversal.publicAddress, reachableAddresses(utp.address))
    const published = new Publisher(session, pool, last.sequence, () => ({
      addresses: addresses(),
      helpers: helpers.references,
      helps: exchange !== undefined,
    }))
    publisher = published
    toClose.push(
      () => published.stop(),
      () => helpers.stop(),
    )
    await unlessAborted(helpers.start(HELPER_PATIENCE), signal)
    logger.info('network started', { id: identity.id, addresses: addresses().map(formatAddress) })
    return {
      session,
      dialler,
      forwards,
      addresses,
      publicAddress: () => traversal.publicAddress,
      close,
      get self() {
        return published.record
      },
    }
  } catch (error) {
    await close()
    throw error
  }
}

/** The public address is where most others can come: it is the first of all. */
function withPublic(seen: PublicAddress, own: SocketAddress[]): SocketAddress[] {
  if (!seen.known) return own
  return [seen.address, ...own.filter((one) => !sameAddress(one, seen.address))].slice(0, maxAddresses)
}

async function closePipes(pipes: Pipes, forwards: Set<Forward>): Promise<void> {
  await Promise.all([...forwards].map((forward) => forward.close()))
  const stopped = new UsageError('ERR_NATWORK_STOPPED', 'the network was stopped')
  for (const pipe of pipes.values()) pipe.close(stopped)
  await pipes.empty()
}

function notSelf(given: NodeId, own: NodeId): UsageError {
  return new UsageError(
    'ERR_NATWORK_CONTEXT',
    `getSelf gives the record of ${given}, but the private key is that of ${own}`,
  )
}
