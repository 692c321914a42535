import type { EarlyHandshake } from '../early-handshake.ts'

/** What a description says of TLS, if anything: see message.ts. */
export interface Greeted {
  readonly tls?: string
}

/** The first words of TLS between the two nodes of a link, in the signals that find its path. */
export class Greeting {
  readonly #begin: (role: 'client' | 'server') => EarlyHandshake | undefined
  #handshake: EarlyHandshake | undefined
  #flight: Promise<Greeted> | undefined

  constructor(begin: (role: 'client' | 'server') => EarlyHandshake | undefined) {
    this.#begin = begin
  }

  /** A handshake waits for its path. */
  get isOpen(): boolean {
    return this.#handshake?.isReady === true
  }

  /** For the offer, however often it is sent. */
  offer(): Promise<Greeted> {
    return (this.#flight ??= this.#say('client', undefined))
  }

  /** For the answer, however often the same offer comes. */
  async answer({ tls }: Greeted): Promise<Greeted> {
    return tls === undefined ? {} : await (this.#flight ??= this.#say('server', tls))
  }

  hearAnswer({ tls }: Greeted): void {
    if (tls !== undefined) this.#handshake?.receive(Buffer.from(tls, 'base64'))
  }

  /** To go on with by a path, once. Where both nodes call, one of them has only answered in the end. */
  take(role: 'client' | 'server'): EarlyHandshake | undefined {
    const handshake = this.#handshake
    if (handshake?.role !== role || !handshake.isReady) return undefined
    this.#handshake = undefined
    return handshake
  }

  end(): void {
    this.#handshake?.destroy()
    this.#handshake = undefined
    this.#flight = undefined
  }

  async #say(role: 'client' | 'server', heard: string | undefined): Promise<Greeted> {
    const handshake = this.#begin(role)
    if (handshake === undefined) return {}
    this.#handshake = handshake
    if (heard !== undefined) handshake.receive(Buffer.from(heard, 'base64'))
    // Without it the handshake begins when there is a path.
    return await handshake.flight().then(
      (flight) => ({ tls: flight.toString('base64') }),
      () => ({}),
    )
  }
}
