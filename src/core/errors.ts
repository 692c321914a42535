/** Every code is stable: programs may switch on it. Each room lists its own as a union type. */
export type Code = `ERR_NATWORK_${string}`

interface NatworkErrorOptions {
  readonly cause?: unknown
}

/**
 * The base of every error that natwork throws or emits. `code` is stable, `message` is for people and says what to
 * do, `cause` is what the layer below said. Use the subclasses: they tell whose mistake it was.
 */
export class NatworkError<C extends Code = Code> extends Error {
  readonly code: C

  constructor(code: C, message: string, options?: NatworkErrorOptions) {
    super(message, options)
    this.name = new.target.name
    this.code = code
  }
}

/** You misused me: a wrong argument, a call in the wrong state, a bad configuration. */
export class UsageError<C extends Code = Code> extends NatworkError<C> {}

/** The peer misbehaved, refused, vanished, or is not who it should be. */
export class PeerError<C extends Code = Code> extends NatworkError<C> {}

/** The machine underneath said no: a port in use, a full disk, a missing permission. */
export class SystemError<C extends Code = Code> extends NatworkError<C> {}
