import type { UtpConnection } from './connection.ts'
import type { UtpError } from './errors.ts'

/**
 * What the application should know. Between two of the same kind for one connection the application has acted on the
 * first: `readable` comes again after `read` returned undefined, `writable` after `write` took less than offered.
 *
 * - `incoming`: a peer connected and has shown that it receives our packets. Comes first.
 * - `connected`: our `connect` succeeded.
 * - `readable`: `read` has bytes.
 * - `writable`: `write` takes bytes again.
 * - `stalled`: two retransmission timeouts in a row: the way to the peer may be gone, or its or our own address have
 *   changed.
 * - `moved`: the peer speaks from another address now, and is answered there.
 * - `ended`: the peer ended its direction and everything it sent has been read. Ours may go on.
 * - `closed`: it is over; nothing follows. Without `error` both directions ended in order, or `reset` was called here.
 */
export type UtpEvent =
  | {
      readonly type: 'incoming' | 'connected' | 'readable' | 'writable' | 'stalled' | 'moved' | 'ended'
      readonly connection: UtpConnection
    }
  | { readonly type: 'closed'; readonly connection: UtpConnection; readonly error?: UtpError }
