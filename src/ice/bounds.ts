import { MILLISECOND, SECOND } from '../core/machine.ts'

/**
 * What a peer can make us send to an address that nobody has verified, and keep in memory. The address may be a
 * victim's: anybody can name it as a candidate (RFC 8445 §19.5.1).
 *
 * Per pair of a socket of ours and a remote candidate: {@link MAX_UNANSWERED} checks. Per session: {@link MAX_REMOTE}
 * candidates, of one IP address at most {@link MAX_PER_ADDRESS}, and {@link MAX_UNVERIFIED} checks to unverified
 * addresses per minute whatever it names and however often it restarts; a check has at most 148 bytes. The search for a
 * hard NAT's ports comes on top, once per minute, with {@link SEARCH_BUDGET} datagrams to one IP address (twice as many
 * between two blocks of ports). {@link MAX_PER_TARGET} bounds all of it together.
 */
export const MAX_UNANSWERED = 10
export const MAX_REMOTE = 24
export const MAX_PER_ADDRESS = 8
export const MAX_UNVERIFIED = 400
export const UNVERIFIED_WINDOW = 60 * SECOND
/**
 * Unverified checks and searches of all sessions together to one IP address per window, however many peers name it; and the
 * addresses that are counted: beyond them no other is checked until the window ends. An exhaustive search has its own budget
 * on top, which this node's owner has declared.
 */
export const MAX_PER_TARGET = 4_000
export const MAX_TARGETS = 16_384
export const SEARCH_BUDGET = 2048
export const SEARCH_EVERY = 60 * SECOND

/** Peer-reflexive candidates: whoever makes them knows our password. */
export const MAX_REFLEXIVE = 32
/** Our own candidates of a session, and allocations on relays that carry some. */
export const MAX_LOCAL = 32
export const MAX_RELAYS = 4
/**
 * Connections of a session that may begin where the peer's check came from, before ours is answered there: the source may be
 * invented, and its owner gets what a TLS server says first, for as long as nobody answers (some 8 KB).
 */
export const MAX_BELIEVED = 4
/** Sources of checks that came before the peer's credentials. */
export const MAX_EARLY = 16
/** Sessions of a machine; each is made by a call, never by a datagram. */
export const MAX_SESSIONS = 4096
/** Open transactions of a machine; the oldest makes room. A search has up to {@link SEARCH_BUDGET} of them open. */
export const MAX_TRANSACTIONS = 65_536
export const TRANSACTION_LIFETIME = 10 * SECOND
export const MAX_TRACE = 512

/** Ta: the least that RFC 8445 §14.2 allows. A session has few pairs, and an answer on the wire is what takes time. */
export const PACE = 5 * MILLISECOND
/**
 * Between the checks of one pair: not RFC 8445's 500 ms and doubling, since the first packets are meant to be lost in
 * NATs that the peer has yet to open. The number of checks bounds the traffic instead.
 */
export const CHECK_GAPS = [100, 100, 150, 200, 300, 500, 700, 900, 1200].map((ms) => ms * MILLISECOND)
/** How long the last check of a pair is waited for. */
export const LAST_WAIT = 1500 * MILLISECOND

/** Between checks of the path in use, and of those in reserve (RFC 7675 §5.1 asks for 5 s: to see a dead path sooner). */
export const CONSENT_IN_USE = SECOND
export const CONSENT_IN_RESERVE = 4 * SECOND
/** How many checks without an answer in a row make a path doubtful; then how many answers end that, and the time between. */
export const DOUBT_AFTER = 4
export const STEADY_AFTER = 3
export const STEADY_GAP = 250 * MILLISECOND
/** Answers of a direct path that are that close together, too, while a relayed one seems better. */
export const MEASURED_SOON = 10
/** Without an answer for so long there is no path, though no better one is known; RFC 7675 §5.1 allows 30 s. */
export const CONSENT_EXPIRY = 5 * SECOND
/** Between checks of a path that is gone: it may come back. */
export const REVIVE_FIRST = SECOND
export const REVIVE_MAX = 15 * SECOND
export const REVIVE_TRIES = 240

/** TTL of the packets that only open our own NAT: it survives a home router and a carrier's, and dies before the peer's. */
export const OPENING_TTL = 5
/** How long they are all we send, while the peer may not have opened its own NAT yet. */
export const OPENING = 300 * MILLISECOND

/** How long a peer of another make may still come up with a check of its own (RFC 8863 §4), and one of natwork's. */
export const PAC_TIMER = 39_500 * MILLISECOND
export const PAC_TIMER_OF_OURS = 8 * SECOND
/**
 * How long a search waits for what needs none. After the answer: the peer's first check was sent with it and may get through.
 * After the offer: the peer opens its side when it has our answer.
 */
export const SEARCH_AFTER_ANSWER = 20 * MILLISECOND
export const SEARCH_AFTER_OFFER = 100 * MILLISECOND
