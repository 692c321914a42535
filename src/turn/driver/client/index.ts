export { openRelayOverUdp, type OpenRelayOptions } from './open.ts'
export { RelayAllocation, type RelayEvents } from './relay.ts'
