import type { Micros, Path, Transmit } from '../core/machine.ts'
import type { Rng } from '../core/ports.ts'
import type { StunBuilder } from '../stun/codec/index.ts'
import type { IceEvent } from './api.ts'
import type { Generation, Pair } from './check-list.ts'
import type { Session } from './session.ts'

/** A check that waits for its answer. */
export interface Transaction {
  readonly session: Session
  readonly path: Path
  readonly sentAt: Micros
  /** Undefined: a probe of a search, where the answer makes the pair. */
  readonly pair: Pair | undefined
  readonly generation: Generation
  /** 0: none. */
  readonly nomination: number
  /** Our role when it was sent. */
  readonly controlling: boolean
}

/** What a session has of its machine. */
export interface SessionHost {
  readonly rng: Rng
  readonly builder: StunBuilder
  /** Opens a transaction and gives its id, which the caller uses at once. */
  begin(now: Micros, transaction: Transaction): Uint8Array
  transmit(transmit: Transmit): void
  emit(event: IceEvent): void
  /** Checks with this fragment are the session's from now on, and answered with these credentials. */
  claim(generation: Generation, session: Session): void
  /** Whether one more check may go to an IP address from which nothing came yet; `agreed`: so many beyond what all may get. */
  mayKnock(now: Micros, address: string, agreed?: number): boolean
  /** Something has answered there: so many of the checks were no nuisance. */
  answeredFrom(address: string, checks: number): void
  /** Those of earlier generations are nobody's any more. */
  keepOnly(generation: Generation, session: Session): void
  /** The session is closed. */
  retire(session: Session): void
  /** Its deadline may have changed. */
  touch(): void
}
