export { BehaviourDiscovery, type DiscoveryOptions } from './discovery.ts'
export { judgePorts, type PortSample, type PortVerdict } from './ports.ts'
export type {
  BehaviourReport,
  Dependence,
  Hairpin,
  Observation,
  PortAllocation,
  Translation,
  Finding,
} from './report.ts'
