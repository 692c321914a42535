import { UsageError } from '../core/errors.ts'

export type PortmapErrorCode =
  /** A port or address that nothing can be mapped to, or a mapper that is started twice. */
  'ERR_NATWORK_PORTMAP_CONFIG'

export class PortmapUsageError extends UsageError<PortmapErrorCode> {}
