import { SystemError, UsageError } from '../core/errors.ts'

/** Every code the laboratory throws. */
export type LabCode =
  | 'ERR_NATWORK_LAB_TOPOLOGY'
  | 'ERR_NATWORK_LAB_UNKNOWN_KIND'
  | 'ERR_NATWORK_LAB_UNKNOWN_HOST'
  | 'ERR_NATWORK_LAB_UNKNOWN_SCENARIO'
  | 'ERR_NATWORK_LAB_CLOSED'
  | 'ERR_NATWORK_LAB_PLATFORM'
  | 'ERR_NATWORK_LAB_MISSING_PROGRAM'
  | 'ERR_NATWORK_LAB_NO_COMPILER'
  | 'ERR_NATWORK_LAB_NO_PERMISSION'
  | 'ERR_NATWORK_LAB_SETUP'
  | 'ERR_NATWORK_LAB_ADAPTER'
  | 'ERR_NATWORK_LAB_RESULTS'

/** You asked for something that cannot be: the message says what would. */
export class LabUsageError extends UsageError<LabCode> {}

/** This machine cannot do it: the message says what to install or allow. */
export class LabSystemError extends SystemError<LabCode> {}
