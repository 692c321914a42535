import { Duplex } from 'node:stream'
import type { SocketAddress } from '../core/address.ts'
import { MILLISECOND, type Micros } from '../core/machine.ts'
import { systemRng } from '../core/ports.ts'
import { IceMachine, type IceSession } from '../ice/index.ts'
import { EarlyHandshake } from './early-handshake.ts'
import type { Identity } from './identity.ts'
import { signNodeInfo, verifyNodeInfo } from './node-info.ts'
import {
  readGreeting,
  readMessage,
  replySchema,
  requestSchema,
  uncompiled,
  writeGreeting,
  writeMessage,
} from './protocol.ts'
import { closed } from './refusal.ts'
import { signalMessageSchema, type LinkAnswer, type LinkHalf, type LinkOffer } from './signalling/message.ts'
import { openSignal, sealSignal } from './signalling/seal.ts'

/**
 * One call of this node's to itself, in memory: offer, answer, checks, TLS, a request. What is loaded, compiled or set up when it
 * is first used is there for the first real call then, which is tens of milliseconds sooner for it. A node that starts waits
 * for its helpers anyhow.
 *
 * @throws {Error} when the two sides do not come together: they are the same program, so that this is a defect.
 * @throws the signal's reason when it aborts.
 */
export async function rehearse(identity: Identity, signal: AbortSignal): Promise<void> {
  const options = { timeout: patience, signal }
  const client = new EarlyHandshake('client', identity, options)
  const server = new EarlyHandshake('server', identity, options)
  try {
    const [caller, called] = [new Player(true, '192.0.2.1'), new Player(false, '192.0.2.2')]
    const record = signNodeInfo(identity, { addresses: [], sequence: 0, expires: 0 })
    const offer = byMail<LinkOffer>(identity, {
      ...caller.description,
      type: 'offer',
      tls: (await client.flight()).toString('base64'),
      record,
    })
    verifyNodeInfo(offer.record)
    called.hear(offer)
    server.receive(Buffer.from(offer.tls ?? '', 'base64'))
    const answer = byMail<LinkAnswer>(identity, {
      ...called.description,
      type: 'answer',
      tls: (await server.flight()).toString('base64'),
      to: offer.parameters.ufrag,
    })
    caller.hear(answer)
    client.receive(Buffer.from(answer.tls ?? '', 'base64'))
    findPath(caller, called)
    await converse(client, server, identity)
  } catch (error) {
    signal.throwIfAborted()
    throw error
  } finally {
    client.destroy()
    server.destroy()
  }
}

/** Milliseconds for TLS with oneself, on the slowest machine. */
const patience = 10_000
const link = '00'.repeat(16)

/** As its receiver has it. */
function byMail<T extends LinkOffer | LinkAnswer>(identity: Identity, message: T): T {
  const self = { id: identity.id, sealKey: identity.sealKey.publicKey }
  const opened = openSignal(identity, sealSignal(identity, self, JSON.stringify(message), 0))
  return signalMessageSchema.parse(JSON.parse(opened?.text ?? 'null'), uncompiled) as T
}

/** A side of the call: a host on a network that exists nowhere else. */
class Player {
  readonly machine = new IceMachine({ rng: systemRng })
  readonly address: SocketAddress
  readonly #session: IceSession

  constructor(controlling: boolean, address: string) {
    this.address = { address, port: 1315 }
    const candidates = [{ type: 'host', address: this.address }] as const
    this.#session = this.machine.open(0, { controlling, local: { candidates } })
  }

  get description(): LinkHalf {
    const { parameters, localCandidates } = this.#session
    return { link, parameters, candidates: [...localCandidates], hints: {}, complete: true }
  }

  get hasPath(): boolean {
    return this.#session.path !== undefined
  }

  hear({ parameters, candidates, hints, complete }: LinkHalf): void {
    this.#session.setRemote(0, { ...parameters, candidates, hints, complete, sawOurs: true })
  }

  /** What it has to say is at the other one in no time. */
  play(now: Micros, other: Player): void {
    if ((this.machine.pollTimeout()?.at ?? Infinity) <= now) this.machine.handleTimeout(now)
    for (let sent = this.machine.pollTransmit(); sent !== undefined; sent = this.machine.pollTransmit()) {
      other.machine.handleDatagram(now, { remote: this.address }, sent.data.slice())
    }
    while (this.machine.pollEvent() !== undefined);
  }
}

/** Within a second of the game's. */
function findPath(caller: Player, called: Player): void {
  for (let n = 0; n < 1_000; n++) {
    caller.play(n * MILLISECOND, called)
    called.play(n * MILLISECOND, caller)
    if (caller.hasPath && called.hasPath) return
  }
  throw new Error('no path from one of our own sessions to another')
}

/** The rest of TLS, a request, and the answer. */
async function converse(client: EarlyHandshake, server: EarlyHandshake, { id }: Identity): Promise<void> {
  const near = new Wire()
  const far = new Wire()
  near.other = far
  far.other = near
  try {
    const ours = (await client.complete(near, writeGreeting(link))).on('error', ignore)
    writeMessage(ours, { op: 'pipe', to: id, service: 'rehearsal' })
    await readGreeting(far)
    const theirs = (await server.complete(far)).on('error', ignore)
    await readMessage(theirs, requestSchema)
    writeMessage(theirs, { ok: true })
    await readMessage(ours, replySchema)
    for (const stream of [ours, theirs]) stream.resume().end()
    await Promise.all([closed(ours, patience), closed(theirs, patience)])
  } finally {
    near.destroy()
    far.destroy()
  }
}

/** One end of a byte stream in memory. */
class Wire extends Duplex {
  other: Wire | undefined

  override _read(): void {
    // What the other end writes is pushed.
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.other?.push(chunk)
    done()
  }

  override _final(done: () => void): void {
    this.other?.push(null)
    done()
  }
}

function ignore(): void {
  // Whoever waits for the stream hears of it.
}
