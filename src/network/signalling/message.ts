import { z } from 'zod'

/** Chosen at random by the side that offers: names the link in all signals about it. */
const link = z.string().regex(/^[0-9a-f]{32}$/)

/** RFC 8839 §5.4's lengths and characters. */
const ufrag = z.string().regex(/^[A-Za-z0-9+/]{4,256}$/)
const pwd = z.string().regex(/^[A-Za-z0-9+/]{22,256}$/)
/** RFC 8839 §5.1, one candidate without `a=candidate:`. */
const candidate = z.string().min(10).max(300)
const candidates = z.array(candidate).max(32)

/** What two nodes tell each other to find a path; sealed and signed, so that only they could have said it. */
export const linkMessageSchema = z.discriminatedUnion('type', [
  /** "Let us find a path": the caller's credentials, what it has gathered so far, and its own record to answer to. */
  z.object({ type: z.literal('offer'), link, ufrag, pwd, candidates, record: z.unknown() }),
  z.object({ type: z.literal('answer'), link, ufrag, pwd, candidates }),
  /** More candidates of the sender, under the credentials that `ufrag` names (RFC 8838). */
  z.object({ type: z.literal('candidates'), link, ufrag, candidates, last: z.boolean() }),
  /** "I am done with the link", or "I will not have it": why, for people. */
  z.object({ type: z.literal('bye'), link, why: z.string().max(300) }),
])

export type LinkMessage = z.output<typeof linkMessageSchema>
