/** A TURN client against a server that answers as the test says, in a time that the test makes. */
import type { SocketAddress } from '../../../src/core/address.ts'
import { SECOND, type Micros, type Path } from '../../../src/core/machine.ts'
import { SimRng } from '../../../src/sim/rng.ts'
import {
  Attribute,
  LongTermAuth,
  LongTermServerAuth,
  MessageClass,
  Method,
  StaticUsers,
  StunBuilder,
  StunView,
} from '../../../src/stun/index.ts'
import { TurnClient, type AllocationRequest, type TurnEvent } from '../../../src/turn/index.ts'

export const SERVER: Path = { remote: { address: '192.0.2.1', port: 3478 } }
export const RELAYED = { address: '192.0.2.1', port: 50_000 }

/** What to answer; undefined: nothing. `to`: the server that was asked. */
export type Script = (request: StunView, answer: Answers, to: SocketAddress) => Uint8Array | undefined

export class Answers {
  readonly #builder = new StunBuilder()
  readonly #request: StunView
  /** Adds the proof that an answer comes from the server. */
  readonly signer: (builder: StunBuilder) => void

  constructor(request: StunView, signer: (builder: StunBuilder) => void = () => undefined) {
    this.#request = request
    this.signer = signer
  }

  /** The same without proof that it comes from the server. */
  get unsigned(): Answers {
    return new Answers(this.#request)
  }

  ok(attributes: (builder: StunBuilder) => unknown = () => undefined): Uint8Array {
    const builder = this.#builder.startResponse(this.#request, MessageClass.Success)
    attributes(builder)
    this.signer(builder)
    return builder.copy()
  }

  error(code: number, attributes: (builder: StunBuilder) => unknown = () => undefined): Uint8Array {
    const builder = this.#builder.startResponse(this.#request, MessageClass.Error).errorCode(code)
    attributes(builder)
    this.signer(builder)
    return builder.copy()
  }

  /** What a good server says. */
  usual(): Uint8Array {
    switch (this.#request.method) {
      case Method.Allocate:
        return this.ok((builder) =>
          builder.xorAddress(Attribute.XorRelayedAddress, RELAYED).uint32(Attribute.Lifetime, 600),
        )
      case Method.Refresh:
        return this.ok((builder) =>
          builder.uint32(Attribute.Lifetime, this.#request.uint32(Attribute.Lifetime) ?? 600),
        )
      default:
        return this.ok()
    }
  }
}

export class Stage {
  readonly client: TurnClient
  now: Micros = 1_000_000
  script: Script
  readonly events: TurnEvent[] = []
  /** Every request that reached the server. */
  readonly requests: StunView[] = []
  /** What went out for peers, as the server gets it. */
  readonly output: Buffer[] = []
  readonly input: { path: Path; bytes: Buffer }[] = []
  readonly #view = new StunView()
  readonly #checks: boolean
  readonly #auth = new LongTermServerAuth(
    new StaticUsers('relay.test', { user: 'secret' }),
    new Uint8Array(32).fill(5),
    600 * SECOND,
  )

  constructor(
    options: {
      request?: AllocationRequest
      /** The server asks for a username and a password. */
      credentials?: boolean
      reliable?: boolean
      script?: Script
      seed?: number
    } = {},
  ) {
    const { request, credentials = false, reliable, seed = 1 } = options
    this.#checks = credentials
    this.script = options.script ?? ((_request, answer) => answer.usual())
    this.client = new TurnClient({
      rng: new SimRng(seed),
      server: SERVER,
      ...(request && { request }),
      ...(credentials && { auth: new LongTermAuth('user', 'secret') }),
      ...(reliable !== undefined && { reliable }),
      output: (_now, bytes) => this.output.push(Buffer.from(bytes)) > 0,
      input: (path, bytes) => this.input.push({ path, bytes: Buffer.from(bytes) }),
    })
  }

  get types(): string[] {
    return this.events.map(({ type }) => type)
  }

  methods(method: number): StunView[] {
    return this.requests.filter((request) => request.method === method)
  }

  allocated(): this {
    this.client.allocate(this.now)
    this.pump()
    return this
  }

  send(to: { address: string; port: number }, data: Uint8Array): void {
    const path = this.client.path(to)
    path.via?.send(this.now, { path, data })
    this.pump()
  }

  /** What the server sends of itself. */
  receive(bytes: Uint8Array, path = SERVER): boolean {
    const taken = this.client.handleDatagram(this.now, path, bytes)
    this.pump()
    return taken
  }

  pump(): void {
    for (let next = this.client.pollTransmit(); next !== undefined; next = this.client.pollTransmit()) {
      const request = new StunView()
      request.open(Uint8Array.from(next.data))
      if (request.messageClass === MessageClass.Indication) {
        this.output.push(Buffer.from(next.data))
        continue
      }
      const answer = this.#answer(request, next.path)
      if (answer !== undefined) this.client.handleDatagram(this.now, next.path, answer)
    }
    for (let event = this.client.pollEvent(); event !== undefined; event = this.client.pollEvent()) {
      this.events.push(event)
    }
  }

  #answer(request: StunView, { remote }: Path): Uint8Array | undefined {
    const checked = this.#checks ? this.#auth.check(this.now, request, remote) : undefined
    if (checked?.ok === false) return new Answers(request, checked.challenge).error(checked.code)
    this.requests.push(request)
    return this.script(request, new Answers(request, checked?.sign), remote)
  }

  /** Lets time go by, from deadline to deadline. */
  run(seconds: number): void {
    const end = this.now + seconds * SECOND
    for (;;) {
      const at = this.client.pollTimeout()?.at ?? Infinity
      if (at > end) break
      this.now = Math.max(this.now, at)
      this.client.handleTimeout(this.now)
      this.pump()
    }
    this.now = end
  }

  /** A Data indication. */
  data(peer: { address: string; port: number }, attributes: (builder: StunBuilder) => unknown): Uint8Array {
    const builder = new StunBuilder().start(Method.Data, MessageClass.Indication, new Uint8Array(12))
    builder.xorAddress(Attribute.XorPeerAddress, peer)
    attributes(builder)
    return builder.copy()
  }

  /** The message of a Send indication in {@link output}. */
  sent(n: number): StunView {
    this.#view.open(this.output[n]!)
    return this.#view
  }
}
