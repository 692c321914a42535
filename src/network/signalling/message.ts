import { z } from 'zod'
import { parseCandidate, type IceCandidate, type IceParameters, type NatHints } from '../../ice/index.ts'

/** RFC 8839 §5.4's lengths and characters. */
const parametersSchema: z.ZodType<IceParameters> = z.object({
  ufrag: z.string().regex(/^[A-Za-z0-9+/]{4,256}$/),
  pwd: z.string().regex(/^[A-Za-z0-9+/]{22,256}$/),
  options: z
    .array(z.enum(['trickle', 'renomination']))
    .max(2)
    .exactOptional(),
})

const candidateSchema = z.unknown().transform((value, context): IceCandidate => {
  try {
    return parseCandidate(value)
  } catch (error) {
    context.addIssue((error as Error).message)
    return z.NEVER
  }
})

const dependences = ['endpoint-independent', 'address-dependent', 'address-and-port-dependent'] as const

const hintsSchema: z.ZodType<NatHints> = z.object({
  mapping: z.enum(dependences).exactOptional(),
  filtering: z.enum(dependences).exactOptional(),
  ports: z.enum(['preserving', 'fixed', 'sequential', 'block', 'random']).exactOptional(),
  step: z.int().min(-65_535).max(65_535).exactOptional(),
  lastPort: z.int().min(1).max(65_535).exactOptional(),
})

/** Chosen at random by the side that offers: names the link in all signals about it. */
const link = z.string().regex(/^[0-9a-f]{32}$/)

/** One side's half of an offer or answer. */
const description = {
  link,
  parameters: parametersSchema,
  candidates: z.array(candidateSchema).max(32),
  hints: hintsSchema,
  /** No more candidates will come. */
  complete: z.boolean(),
}

/** TLS's first flight of the one who says it: see EarlyHandshake. Of 215 to 1,800 bytes, as its key exchange has it. */
const tls = z.base64().max(4_000).exactOptional()

/** What two nodes tell each other to find a path; sealed and signed, so that only they could have said it. */
const linkMessageSchema = z.discriminatedUnion('type', [
  /** "Let us find a path", or find one anew; with the sender's record, so that it can be answered. */
  z.object({ type: z.literal('offer'), ...description, record: z.unknown(), tls }),
  /** `to` names the offer by its `ufrag`. */
  z.object({ type: z.literal('answer'), ...description, to: z.string().max(256), tls }),
  /** More candidates of the sender's, or fresher hints, under the credentials that `ufrag` names (RFC 8838). */
  z.object({
    type: z.literal('candidates'),
    link,
    ufrag: z.string().max(256),
    candidates: z.array(candidateSchema).max(32),
    complete: z.boolean(),
    /** In place of those that were said before. */
    hints: hintsSchema.exactOptional(),
  }),
  /** "I am done with the link", or "I will not have it": why, for people. */
  z.object({ type: z.literal('bye'), link, why: z.string().max(300) }),
])

export type LinkMessage = z.output<typeof linkMessageSchema>

/** All that is said in sealed signals. */
export const signalMessageSchema = z.discriminatedUnion('type', [
  ...linkMessageSchema.options,
  /** "This is where I am now", to a node behind a NAT: what control streams call `announce`. */
  z.object({ type: z.literal('announce'), record: z.unknown() }),
])

export type SignalMessage = z.output<typeof signalMessageSchema>

export type LinkOffer = Extract<LinkMessage, { type: 'offer' }>
export type LinkAnswer = Extract<LinkMessage, { type: 'answer' }>
/** One side's half of either. */
export type LinkHalf = Pick<LinkOffer, 'link' | 'parameters' | 'candidates' | 'hints' | 'complete'>

export type LinkCandidates = Extract<LinkMessage, { type: 'candidates' }>
