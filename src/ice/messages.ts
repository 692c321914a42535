import type { FailureReason } from './types.ts'

export const failureMessages: Readonly<Record<FailureReason, string>> = {
  'no-candidates': 'the peer named no address that this machine could try',
  'no-answer': 'no address of the peer’s answered: UDP is blocked somewhere, and no relay is shared',
  'consent-lost': 'the path to the peer stopped working, and no other is left',
}
