import { connect, type Socket } from 'node:net'
import type { SocketAddress } from '../core/address.ts'
import { PeerError, SystemError, type NatworkError } from '../core/errors.ts'
import { sourceKey } from '../turn/server/limits.ts'
import type { UtpStream } from '../utp/driver/index.ts'
import { Access, type Decision } from './access.ts'
import { ControlChannel } from './control.ts'
import type { ControlDesk } from './control-desk.ts'
import { Scope } from './deadline.ts'
import { asError, type RefusalCode } from './errors.ts'
import type { EarlyHandshake } from './early-handshake.ts'
import { handshake } from './handshake.ts'
import type { Links } from './links/links.ts'
import type { NodeId } from './node-id.ts'
import type { Pipe } from './pipe.ts'
import { readGreeting, readMessage, requestSchema, type Request } from './protocol.ts'
import { Quota } from './quota.ts'
import { accept, closed, refuse, RefusedError } from './refusal.ts'
import { translate, type SecureStream } from './secure-stream.ts'
import { targetOf, type Service } from './services.ts'
import type { Session } from './session.ts'
import { splice } from './splice.ts'
import { TcpStream } from './tls/tcp-stream.ts'

/** What an acceptor hands over to. */
export interface AcceptorParts {
  readonly desk: ControlDesk
  readonly links: Links
}

/** The listening side: who calls, what for, and whether they may. */
export class Acceptor {
  readonly #session: Session
  readonly #desk: ControlDesk
  readonly #links: Links
  readonly #access: Access
  readonly #handshakes: Quota<string>
  readonly #pipes: Quota<NodeId>
  readonly #controls: Quota<NodeId>
  readonly #controlSources: Quota<string>
  #lastReport = 0

  constructor(session: Session, { desk, links }: AcceptorParts, helps: boolean) {
    const { identity, services, tickets, limits } = session
    this.#session = session
    this.#desk = desk
    this.#links = links
    this.#access = new Access(identity.id, services, tickets)
    this.#handshakes = new Quota(limits.handshakes, limits.handshakesPerAddress)
    this.#pipes = new Quota(limits.pipes, limits.pipesPerPeer)
    const controls = helps ? limits.helped : limits.controls
    this.#controls = new Quota(controls, limits.controlsPerPeer)
    this.#controlSources = new Quota(controls, limits.controlsPerAddress)
  }

  /** Takes over an incoming connection. Never throws: whatever goes wrong ends that connection only. */
  accept(raw: UtpStream | TcpStream): void {
    const remote: SocketAddress = { address: raw.remoteAddress, port: raw.remotePort }
    // A path may change while its connection is not yet known by name.
    if (!(raw instanceof TcpStream)) this.#links.ownerOf(raw.connection.path)?.add(raw)
    const release = this.#handshakes.take(sourceKey(remote.address))
    if (release === undefined) {
      raw.on('error', () => undefined)
      raw.destroy(new PeerError('ERR_NATWORK_BUSY', 'too many handshakes in progress'))
      this.#session.context.logger.debug('connection dropped: too many handshakes', { remote })
      return
    }
    void this.#hear(raw, remote)
      .then((heard) => heard && this.#answer(heard.stream, heard.request, release))
      .catch((error: unknown) => {
        this.#session.context.logger.error('defect in natwork: a connection failed', {
          error: asError(error),
        })
      })
      .finally(release)
  }

  async #hear(
    raw: UtpStream | TcpStream,
    remote: SocketAddress,
  ): Promise<{ stream: SecureStream; request: Request } | undefined> {
    const { identity, timeouts, signal } = this.#session
    const scope = new Scope(timeouts.handshake, [signal], () => {
      return new PeerError('ERR_NATWORK_TIMEOUT', `no request within ${timeouts.handshake} ms`)
    })
    let stream: SecureStream | undefined
    try {
      const begun = await scope.run(this.#begun(raw))
      stream = await scope.run(
        begun?.complete(raw) ??
          handshake(raw, 'server', identity, { timeout: timeouts.handshake, signal: scope.signal }),
      )
      // Whoever waits on the stream hears of its errors there; between two waits nobody does.
      stream.on('error', () => undefined)
      if (!(raw instanceof TcpStream)) this.#links.adopt(raw, stream.peer)
      const request = await scope.run(readMessage(stream, requestSchema))
      if (request !== undefined) return { stream, request }
      stream.end()
      stream.resume()
      await closed(stream, timeouts.linger)
    } catch (thrown) {
      const error = translate(asError(thrown))
      raw.on('error', () => undefined)
      if (stream === undefined) raw.destroy()
      else stream.destroy(error)
      this.#report(remote, stream?.peer, undefined, error)
    } finally {
      scope.close()
    }
    return undefined
  }

  /** TLS that began with the signals that found the path. @throws {PeerError} `ERR_NATWORK_PROTOCOL` */
  async #begun(raw: UtpStream | TcpStream): Promise<EarlyHandshake | undefined> {
    if (raw instanceof TcpStream) return undefined
    const name = await readGreeting(raw)
    if (name === undefined) return undefined
    const begun = this.#links.greetingOf(name)
    if (begun === undefined) throw new PeerError('ERR_NATWORK_PROTOCOL', 'the handshake that began is over')
    return begun
  }

  // `admitted` gives back the place among the handshakes, once the stream has one among the pipes or controls. What is
  // refused keeps it until the answer has arrived.
  async #answer(stream: SecureStream, request: Request, admitted: () => void): Promise<void> {
    const { id } = this.#session.identity
    if (request.op === 'wrong-node' || request.to !== id) {
      const error = new PeerError('ERR_NATWORK_IDENTITY', `the caller expected ${request.to}, found ${id}`)
      this.#report(stream.remote, stream.peer, undefined, error)
      await refuse(stream, 'ERR_NATWORK_IDENTITY', this.#session.timeouts.linger)
      return
    }
    switch (request.op) {
      case 'pipe':
        return this.#pipe(stream, request.service, request.ticket, admitted)
      case 'ping':
        return this.#ping(stream, admitted)
      case 'control':
        return this.#control(stream, admitted)
    }
  }

  async #pipe(
    stream: SecureStream,
    name: string,
    ticket: string | undefined,
    admitted: () => void,
  ): Promise<void> {
    const { pipes } = this.#session
    const decision = await this.#decide(stream.peer, name, ticket)
    if ('refusal' in decision) return this.#refuse(stream, name, decision.refusal)
    const { service, ticketId } = decision
    const release = this.#pipes.take(stream.peer)
    if (release === undefined) return this.#refuse(stream, name, 'ERR_NATWORK_BUSY')
    admitted()
    const pipe = pipes.create({ direction: 'in', peer: stream.peer, service: name, ticketId })
    try {
      await this.#serve(stream, service, pipe)
    } finally {
      pipes.delete(pipe.id)
      release()
    }
  }

  async #serve(stream: SecureStream, service: Service, pipe: Pipe): Promise<void> {
    const { context, timeouts, signal, pipes, emit } = this.#session
    // The caller may give up while the local port is slow.
    const abort = (): void => {
      pipe.close()
    }
    stream.once('close', abort)
    let local: Socket
    try {
      local = await connectLocal(service, timeouts.service, [pipe.signal, signal])
    } catch (error) {
      context.logger.warn('service unreachable', { service: service.name, error: asError(error).message })
      await this.#refuse(stream, service.name, 'ERR_NATWORK_SERVICE_UNREACHABLE')
      return
    } finally {
      stream.off('close', abort)
    }
    accept(stream)
    pipe.opened(stream)
    context.logger.info('pipe opened', { pipe: pipe.id, peer: pipe.peer, service: service.name })
    emit('pipe', pipe)
    const error = await splice(local, stream)
    context.logger.info('pipe closed', {
      pipe: pipe.id,
      peer: pipe.peer,
      service: service.name,
      bytesIn: pipe.bytesIn,
      bytesOut: pipe.bytesOut,
      ...(error && { error: error.message }),
    })
    pipes.delete(pipe.id)
    emit('pipeClosed', pipe, error)
  }

  async #decide(peer: NodeId, name: string, ticket: string | undefined): Promise<Decision> {
    try {
      return await this.#access.decide(peer, name, ticket, Date.now() / 1_000)
    } catch (error) {
      // A use that cannot be written down is not given: a full disk must not make tickets endless.
      this.#session.context.logger.error('tickets cannot be read or written', {
        error: asError(error).message,
      })
      return { refusal: 'ERR_NATWORK_BUSY' }
    }
  }

  async #ping(stream: SecureStream, admitted: () => void): Promise<void> {
    const release = this.#takeControl(stream)
    if (release === undefined) {
      await this.#refuse(stream, undefined, 'ERR_NATWORK_BUSY')
      return
    }
    admitted()
    accept(stream)
    destroyWhenIdle(stream, this.#session.timeouts.idle)
    stream.once('close', release)
    stream.pipe(stream)
  }

  async #control(stream: SecureStream, admitted: () => void): Promise<void> {
    const { timeouts, context } = this.#session
    if (!(await this.#desk.admits(stream.peer))) {
      return this.#refuse(stream, undefined, 'ERR_NATWORK_CONTROL_DENIED')
    }
    const release = this.#takeControl(stream)
    if (release === undefined) return this.#refuse(stream, undefined, 'ERR_NATWORK_BUSY')
    admitted()
    accept(stream)
    stream.once('close', release)
    const channel = new ControlChannel(stream, stream.peer, {
      handler: this.#desk.answer,
      idle: timeouts.idle,
    })
    const error = await channel.closed
    if (error !== undefined) {
      context.logger.debug('a control stream broke', { peer: stream.peer, error: error.message })
    }
  }

  #takeControl({ peer, remote }: SecureStream): (() => void) | undefined {
    const releasePeer = this.#controls.take(peer)
    const releaseSource = releasePeer && this.#controlSources.take(sourceKey(remote?.address ?? ''))
    if (releaseSource === undefined) {
      releasePeer?.()
      return undefined
    }
    return () => {
      releasePeer?.()
      releaseSource()
    }
  }

  #refuse(stream: SecureStream, service: string | undefined, code: RefusalCode): Promise<void> {
    const what = service === undefined ? 'the request' : `service "${service}"`
    const error = new RefusedError(code, `${what} was refused to ${stream.peer}`)
    this.#report(stream.remote, stream.peer, service, error)
    return refuse(stream, code, this.#session.timeouts.linger)
  }

  #report(
    remote: SocketAddress | undefined,
    peer: NodeId | undefined,
    service: string | undefined,
    error: NatworkError,
  ): void {
    const { context, emit } = this.#session
    // A stranger must not be able to fill the log.
    const now = Date.now()
    const level = now - this.#lastReport >= 1_000 ? 'info' : 'debug'
    if (level === 'info') this.#lastReport = now
    context.logger[level]('request refused', { remote, peer, service, code: error.code, why: error.message })
    emit('refused', { remote, peer, service, error })
  }
}

async function connectLocal(
  service: Service,
  timeout: number,
  signals: readonly AbortSignal[],
): Promise<Socket> {
  const scope = new Scope(timeout, signals, () => {
    return new SystemError('ERR_NATWORK_TIMEOUT', `${targetOf(service)} did not accept within ${timeout} ms`)
  })
  const socket = connect({
    host: service.host,
    port: service.port,
    allowHalfOpen: true,
    noDelay: true,
    keepAlive: true,
  })
  try {
    await scope.run(
      new Promise<void>((resolve, reject) => {
        socket.once('connect', resolve)
        socket.once('error', reject)
      }),
    )
    return socket
  } catch (error) {
    socket.on('error', () => undefined)
    socket.destroy()
    throw error
  } finally {
    scope.close()
  }
}

function destroyWhenIdle(stream: SecureStream, timeout: number): void {
  const timer = setTimeout(() => {
    stream.destroy(new PeerError('ERR_NATWORK_TIMEOUT', `the peer said nothing for ${timeout} ms`))
  }, timeout)
  stream.raw.on('data', () => timer.refresh())
  stream.once('close', () => clearTimeout(timer))
}
