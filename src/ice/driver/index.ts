export { IceAgent, type IceAgentOptions } from './agent.ts'
export {
  hostCandidates,
  interfaceAddresses,
  interfacesFingerprint,
  type InterfaceAddress,
} from './host-candidates.ts'
