import { familyOf } from '../../core/address.ts'
import type { Machine, Micros, Path, Transmit } from '../../core/machine.ts'
import { SECOND } from '../../core/machine.ts'
import type { Rng } from '../../core/ports.ts'
import { decode, encode, KEY_LENGTH } from './wire.ts'

/**
 * The public helper of the reference punch: tells two peers of a session each other's addresses as it sees them, at
 * the same moment, with a key by which they know each other.
 */
export class PunchHelper implements Machine {
  readonly #rng: Rng
  /** By session id; bounded by {@link MAX_SESSIONS}: the one silent longest makes room. */
  readonly #sessions = new Map<string, Session>()
  readonly #out: Transmit[] = []

  constructor(rng: Rng) {
    this.#rng = rng
  }

  handleDatagram(now: Micros, path: Path, bytes: Uint8Array): boolean {
    const message = decode(bytes)
    if (message?.type !== 'register') return false
    const session = this.#session(now, message.session.join())
    const side = session.sides[message.side]
    const other = session.sides[message.side === 0 ? 1 : 0]
    side.paths.set(familyOf(path.remote.address), path)
    side.dials = message.dials
    // Who asks is answered, and the other is told at the same moment: where both dial, they start together.
    this.#introduce(session, side, other, path)
    if (other.dials) for (const way of other.paths.values()) this.#introduce(session, other, side, way)
    return true
  }

  handleTimeout(now: Micros): void {
    for (const [id, session] of this.#sessions) if (session.expires <= now) this.#sessions.delete(id)
  }

  pollTransmit(): Transmit | undefined {
    return this.#out.shift()
  }

  pollEvent(): undefined {
    return undefined
  }

  pollTimeout(): { at: Micros; reason: string } | undefined {
    const oldest = this.#sessions.values().next().value
    return oldest && { at: oldest.expires, reason: 'forget a session' }
  }

  #introduce(session: Session, to: Side, about: Side, path: Path): void {
    const addresses = to.dials ? [...about.paths.values()].map((way) => way.remote) : []
    this.#out.push({ path, data: encode({ type: 'introduce', key: session.key, addresses }) })
  }

  #session(now: Micros, id: string): Session {
    const known = this.#sessions.get(id)
    const session: Session = known ?? {
      key: new Uint8Array(KEY_LENGTH),
      sides: [
        { dials: false, paths: new Map() },
        { dials: false, paths: new Map() },
      ],
      expires: 0,
    }
    if (!known) this.#rng.fill(session.key)
    session.expires = now + SESSION_LIFETIME
    this.#sessions.delete(id) // so that the map's order is that of silence
    const [longest] = this.#sessions.keys()
    if (this.#sessions.size >= MAX_SESSIONS && longest !== undefined) this.#sessions.delete(longest)
    this.#sessions.set(id, session)
    return session
  }
}

const MAX_SESSIONS = 1024
const SESSION_LIFETIME = 60 * SECOND

interface Side {
  dials: boolean
  /** The newest per family. */
  readonly paths: Map<4 | 6, Path>
}

interface Session {
  readonly key: Uint8Array
  readonly sides: readonly [Side, Side]
  expires: Micros
}
