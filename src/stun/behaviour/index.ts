export { BehaviourDiscovery, type DiscoveryOptions } from './discovery.ts'
export {
  lifetimeLadder,
  probeLifetime,
  type Lifetime,
  type LifetimePort,
  type LifetimePorts,
  type LifetimeProbeOptions,
} from './lifetime.ts'
export { nat64Prefixes } from './nat64.ts'
export { judgePorts, type PortSample, type PortVerdict } from './ports.ts'
export type {
  BehaviourReport,
  Dependence,
  Finding,
  Hairpin,
  NatTraits,
  Observation,
  PortAllocation,
  Translation,
} from './report.ts'
