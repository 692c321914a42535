import { createSocket } from 'node:dgram'
import { EventEmitter, once } from 'node:events'
import type { TestContext } from 'node:test'
import { formatAddress, type SocketAddress } from '../../src/core/address.ts'
import { systemRng } from '../../src/core/ports.ts'
import {
  ControlChannel,
  type ControlAnswer,
  type ControlQuestion,
  type RelayGrant,
} from '../../src/network/control.ts'
import { handshake } from '../../src/network/handshake.ts'
import { createIdentity, generatePrivateKey, type Identity } from '../../src/network/identity.ts'
import type { NodeId } from '../../src/network/node-id.ts'
import { signNodeInfo, verifyNodeInfo, type NodeInfo } from '../../src/network/node-info.ts'
import { readMessage, requestSchema } from '../../src/network/protocol.ts'
import { accept, RefusedError } from '../../src/network/refusal.ts'
import { StaticUsers, StunResponder, StunServer, StunView } from '../../src/stun/index.ts'
import { RelayHost } from '../../src/turn/index.ts'
import { UtpServer, type UtpStream } from '../../src/utp/driver/index.ts'

/** A sealed signal that somebody has handed to the helper. */
export interface Passed {
  readonly from: NodeId
  readonly to: NodeId
  readonly body: string
}

/** What the helper does otherwise than an honest one. */
export interface Lies {
  /** In place of handing a signal to its receiver. */
  readonly signal?: (signal: Passed, helper: LyingHelper) => void | Promise<void>
  /** In place of the record that the node has given it, if any. */
  readonly find?: (id: NodeId, known: NodeInfo | undefined, asker: NodeId) => unknown
  /** At which address it says to see a node. */
  readonly seen?: (source: SocketAddress) => SocketAddress
  /** What it names as its relay's address; without it there is no relay. */
  readonly relay?: SocketAddress
}

/**
 * A helper of another make that speaks the protocols and lies: uTP, STUN and TURN on one port of loopback, of both
 * families, made of the library's parts and not of its helper.
 */
export class LyingHelper {
  readonly identity: Identity
  /** Every signal that it was given. */
  readonly passed: Passed[] = []
  /** Every record that nodes have given it, in order. */
  readonly records: NodeInfo[] = []
  readonly #lies: Lies
  readonly #utp: UtpServer
  readonly #news = new EventEmitter()
  readonly #attached = new Map<NodeId, ControlChannel>()
  #relay: RelayHost | undefined

  static async open(t: TestContext, lies: Lies): Promise<LyingHelper> {
    const helper = new LyingHelper(await createIdentity(generatePrivateKey()), lies)
    await helper.#utp.start()
    helper.#attachServers()
    t.after(async () => {
      helper.#relay?.close()
      await helper.#utp.stop({ timeout: 100 })
    })
    return helper
  }

  private constructor(identity: Identity, lies: Lies) {
    this.identity = identity
    this.#lies = lies
    this.#utp = new UtpServer({ host: '::', port: 0, onConnection: (raw) => void this.#hear(raw) })
  }

  get port(): number {
    return this.#utp.address.port
  }

  /** As nodes name it. */
  at(host: '127.0.0.1' | '::1'): string {
    return `${this.identity.id}@${formatAddress({ address: host, port: this.port })}`
  }

  /** Gives a node that hangs on it any body, at any time. Resolves when the node has taken it. */
  async hand(body: string, to: NodeId): Promise<void> {
    await this.#attached.get(to)?.ask({ type: 'deliver', body }).catch(ignore)
  }

  /** Resolves when the node hangs on it. */
  async holds(id: NodeId): Promise<void> {
    while (!this.#attached.has(id)) await once(this.#news, 'attached')
  }

  #attachServers(): void {
    const { relay, seen } = this.#lies
    const { endpoint } = this.#utp
    if (relay !== undefined) {
      this.#relay = new RelayHost({
        users: new StaticUsers('liar', { node: 'password' }),
        addresses: [{ host: '127.0.0.1', external: relay.address }],
        ports: { min: relay.port, max: relay.port },
        peers: { allow: ['0.0.0.0/0', '::/0'] },
      })
      this.#relay.attach(endpoint, 'rfc8656')
    }
    const responder = new StunResponder({ rng: systemRng })
    if (seen !== undefined) {
      const respond = responder.respond.bind(responder)
      responder.respond = (now, view, arrival) => {
        const reply = respond(now, view, { ...arrival, source: seen(arrival.source) })
        return reply && { ...reply, to: arrival.source }
      }
    }
    endpoint.attach(new StunServer(responder), ignore)
  }

  async #hear(raw: UtpStream): Promise<void> {
    try {
      const stream = await handshake(raw, 'server', this.identity, { timeout: 5_000 })
      stream.on('error', ignore)
      const request = await readMessage(stream, requestSchema)
      if (request?.op !== 'control') throw new Error('this helper has nothing else')
      accept(stream)
      new ControlChannel(stream, stream.peer, { handler: (...asked) => this.#answer(...asked), idle: 60_000 })
    } catch {
      raw.destroy()
    }
  }

  async #answer(question: ControlQuestion, channel: ControlChannel): Promise<ControlAnswer> {
    switch (question.type) {
      case 'attach':
        this.records.push(verifyNodeInfo(question.info))
        this.#attached.set(channel.peer, channel)
        this.#news.emit('attached')
        return { info: signNodeInfo(this.identity, { addresses: [], sequence: 1, expires: 0, helps: true }) }
      case 'find':
        return { info: this.#find(question.id, channel.peer) }
      case 'signal':
        await this.#signal({ from: channel.peer, to: question.to, body: question.body })
        return {}
      case 'relay':
        if (this.#relay === undefined) throw new RefusedError('ERR_NATWORK_CONTROL_DENIED', 'no')
        return { relay: { username: 'node', password: 'password', lifetime: 3_600 } satisfies RelayGrant }
      default:
        return {}
    }
  }

  #find(id: NodeId, asker: NodeId): unknown {
    const known = this.records.findLast((one) => one.id === id)
    return this.#lies.find === undefined ? known : this.#lies.find(id, known, asker)
  }

  async #signal(signal: Passed): Promise<void> {
    this.passed.push(signal)
    if (this.#lies.signal === undefined) void this.hand(signal.body, signal.to)
    else await this.#lies.signal(signal, this)
  }
}

/** Datagrams, those of them that are connectivity checks, and the bytes of the largest. */
interface Got {
  packets: number
  checks: number
  largest: number
}

/** A UDP port that counts what it gets: where candidates point that are not true. */
export async function openVictim(
  t: TestContext,
  host: string,
): Promise<{ readonly address: SocketAddress; readonly got: Got }> {
  const socket = createSocket('udp4').bind(0, host)
  await once(socket, 'listening')
  t.after(() => socket.close())
  const got = { packets: 0, checks: 0, largest: 0 }
  const view = new StunView()
  socket.on('message', (bytes) => {
    got.packets++
    if (view.open(bytes)) got.checks++
    got.largest = Math.max(got.largest, bytes.length)
  })
  return { address: { address: host, port: socket.address().port }, got }
}

function ignore(): void {
  // What nobody waits for.
}
