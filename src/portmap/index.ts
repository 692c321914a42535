export * from './driver/index.ts'
export * from './errors.ts'
export type { ProtocolReport } from './control/probe.ts'
export type { MappingProtocol, PortMapping, UnavailableReason } from './mapping.ts'
