export { StunAgent } from './agent.ts'
export {
  discoverBehaviour,
  natTraits,
  type DiscoverBehaviourOptions,
  type NatBehaviour,
} from './behaviour.ts'
export { StunConnection, type StunConnectionOptions } from './connection.ts'
export { discoverStunServers, type DiscoverOptions, type StunResolver, type StunTarget } from './discover.ts'
export type { StunAnswer, StunAsk } from './exchanges.ts'
export { getMappedAddress, type MappedAddress, type MappedAddressOptions } from './mapped-address.ts'
export { StunService, type StunServiceOptions } from './service.ts'
export { discoverLifetime, type DiscoverLifetimeOptions } from './lifetime.ts'
export { discoverMtu } from './mtu.ts'
export { discoverNat64 } from './nat64.ts'
export { findServers, type FindServersOptions, type FoundServers } from './servers.ts'
