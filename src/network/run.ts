import { formatAddress, sameAddress, type SocketAddress } from '../core/address.ts'
import { UsageError } from '../core/errors.ts'
import type { PublicAddress } from '../stun/index.ts'
import { UtpServer } from '../utp/driver/index.ts'
import { Acceptor } from './acceptor.ts'
import type { NetworkContext } from './context.ts'
import { unlessAborted } from './deadline.ts'
import { asError } from './errors.ts'
import type { Forward } from './forward.ts'
import { GuardedContext } from './guarded-context.ts'
import { parseHelper, type ConfiguredHelper } from './helper-reference.ts'
import { createIdentity } from './identity.ts'
import { findNat64, InterfaceWatch } from './interfaces.ts'
import { reachableAddresses } from './local-addresses.ts'
import { Nearby } from './nearby.ts'
import type { NodeId } from './node-id.ts'
import { localCandidates, natHints } from './links/gather.ts'
import { maxAddresses, type NodeInfo } from './node-info.ts'
import { outsidePorts, type OutsidePort } from './one-to-one.ts'
import { readExhaustive, type NetworkLimits, type NetworkOptions, type NetworkTimeouts } from './options.ts'
import { MappedPort } from './port-mapping.ts'
import { Publisher } from './publisher.ts'
import { rehearse } from './rehearsal.ts'
import { Rendezvous } from './rendezvous.ts'
import type { Services } from './services.ts'
import type { Pipes, Session } from './session.ts'
import { StunTraversal } from './stun-traversal.ts'
import type { TicketStore } from './ticket-store.ts'
import type { TlsListener } from './tls/listener.ts'

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
  readonly meeting: Rendezvous
  readonly nearby: Nearby
  readonly forwards: Set<Forward>
  /** This node's own record. */
  readonly self: NodeInfo
  readonly addresses: () => SocketAddress[]
  readonly publicAddress: () => PublicAddress
  /** Where this node, as a helper, takes TLS. */
  readonly tlsAddress: SocketAddress | undefined
  close(): Promise<void>
}

/** All that start() does. When it rejects, everything that it opened is closed again. */
export async function openRun(given: RunOptions): Promise<Run> {
  const { options, limits, timeouts, services, tickets, pipes, signal, emit } = given
  const context = new GuardedContext(given.context, timeouts.callback)
  const { logger } = context
  const configured = (options.helpers ?? []).map(parseHelper)
  const publicAddresses = options.publicAddresses ?? []
  const toClose: (() => Promise<void>)[] = []
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

    // It may be our own address that has changed: peers that we only listen to do not know it yet.
    const perhapsMoved = (): void => {
      utp.announce()
      traversal.recheck?.()
    }
    const utp = new UtpServer({
      host: options.host ?? '0.0.0.0',
      port: options.port ?? 1315,
      limits: options.utp ?? {},
      onConnection: (raw) => acceptor.accept(raw),
      // What ICE checks with a password that only the peer and we know, and where it has shown its key on an open connection.
      isVerified: (path) => meeting.links.ownerOf(path) !== undefined,
      // What that password came by: ours is on its way there.
      isBelieved: (path) => meeting.links.believes(path),
      onStalled: () => perhapsMoved(),
      logger,
    })
    const session: Session = {
      ...{ identity, context, utp, pipes, services, tickets, limits, timeouts, signal, emit },
    }
    const meeting: Rendezvous = new Rendezvous(session, {
      helpers: configured,
      help: options.help,
      publicAddresses,
      record: (helper) => (helper === undefined ? publisher.record : publisher.recordFor(helper)),
      candidates: () => localCandidates(traversal.publicAddress, utp.address, outside()),
      hints: () => ({ ...natHints(traversal.publicAddress, utp.address), ...traversal.nat }),
      exhaustive: readExhaustive(options.exhaustive),
      newestPort: () => traversal.newestPort?.() ?? Promise.resolve(undefined),
      onDoubt: perhapsMoved,
      onHelpers: () => {
        publisher.refresh()
        emit('helpers', meeting.helpers.status)
      },
      nearby: (id, aborted) => nearby.find(id, aborted),
      udpWorks: () => traversal.publicAddress.known,
    })
    const outside = (): OutsidePort[] => [...outsidePorts(publicAddresses, utp.address), ...mapped.mappings]
    const acceptor = new Acceptor(session, meeting, meeting.helps)
    const addresses = (): SocketAddress[] =>
      withPublic(traversal.publicAddress, outside(), reachableAddresses(utp.address))
    const publisher: Publisher = new Publisher(session, meeting, last.sequence, () => ({
      addresses: addresses(),
      helpers: meeting.helpers.references,
      helps: meeting.helps,
      tls: tcp.listener?.address.port,
    }))
    const traversal =
      options.traversal ?? new StunTraversal([...(options.stun ?? []), ...configured.map(stunUri)], logger)

    const tcp: { listener?: TlsListener | undefined } = {}
    const mapped = new MappedPort(options.portMapping === true, logger)
    const nearby = new Nearby(options.mdns ?? false)

    toClose.push(() => utp.stop())
    await utp.start({ signal })
    utp.endpoint.nat64 = await unlessAborted(findNat64(utp.address), signal)
    signal.throwIfAborted()

    meeting.attach(utp.endpoint)
    toClose.push(
      () => meeting.stop(),
      () => traversal.stop(),
      () => mapped.stop(),
    )
    tcp.listener = await meeting.listen(utp.endpoint, (raw) => acceptor.accept(raw))
    toClose.push(() => Promise.resolve(tcp.listener?.close()))
    signal.throwIfAborted()
    const tellAll = (): void => {
      if (!publisher.started) return
      publisher.refresh()
      meeting.links.networkChanged()
    }
    await mapped.start(utp.address, signal, tellAll)
    let told = traversal.publicAddress
    const onChange = (): void => {
      meeting.links.hintsChanged()
      if (told === traversal.publicAddress) return
      told = traversal.publicAddress
      // Peers that wait for nothing would go on sending to the old address.
      utp.announce()
      mapped.observe(traversal.publicAddress)
      if (traversal.publicAddress.known) meeting.helpers.udpAnswers()
      tellAll()
      if (publisher.started) emit('publicAddress', traversal.publicAddress)
    }
    const rehearsal = rehearse(identity, signal).catch((error: unknown) => {
      logger.debug('the rehearsal failed', { error: asError(error).message })
    })
    await unlessAborted(traversal.start(utp.endpoint, signal, onChange), signal)
    await rehearsal
    toClose.push(() => nearby.stop())
    await nearby.start(identity.id, utp.address, logger, () => emit('nearby', nearby.nodes))
    signal.throwIfAborted()
    const watch = new InterfaceWatch()
    toClose.push(() => {
      watch.stop()
      return Promise.resolve()
    })
    watch.start(() => {
      logger.info('the addresses of this machine have changed', { addresses: addresses().map(formatAddress) })
      nearby.interfacesChanged()
      void findNat64(utp.address).then((nat64) => {
        if (signal.aborted) return
        utp.endpoint.nat64 = nat64
        traversal.networkChanged?.()
        meeting.networkChanged()
        utp.announce()
        tellAll()
      })
    })

    toClose.push(() => publisher.stop())
    publisher.start()
    await unlessAborted(meeting.start(), signal)
    logger.info('network started', { id: identity.id, addresses: addresses().map(formatAddress) })
    return {
      session,
      meeting,
      nearby,
      forwards,
      addresses,
      publicAddress: () => traversal.publicAddress,
      tlsAddress: tcp.listener?.address,
      close,
      get self() {
        return publisher.record
      },
    }
  } catch (error) {
    await close()
    throw error
  }
}

/** A port that a router holds open is where everybody can come, then the public address where most can. */
function withPublic(
  seen: PublicAddress,
  outside: readonly OutsidePort[],
  own: SocketAddress[],
): SocketAddress[] {
  const best = [...outside.map(({ external }) => external), ...(seen.known ? [seen.address] : []), ...own]
  return best
    .filter((one, i) => best.findIndex((other) => sameAddress(one, other)) === i)
    .slice(0, maxAddresses)
}

/** Every node answers Binding requests on its port. */
function stunUri({ host, port }: ConfiguredHelper): string {
  return `stun:${host.includes(':') ? `[${host}]` : host}:${port}`
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
