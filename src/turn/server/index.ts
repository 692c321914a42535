export { type Allocation as ServedAllocation, type Channel, type Permission } from './allocation.ts'
export * from './io.ts'
export { defaultLimits, type RelayLimits } from './limits.ts'
export * from './policy.ts'
export { Relay, type RelayCounters, type RelayOptions, type RelaySettings } from './relay.ts'
export * from './server.ts'
export {
  AnyOfUsers,
  CallbackUsers,
  KeyedUsers,
  SharedSecretUsers,
  timeLimitedCredentials,
  type TurnCredentials,
} from './users.ts'
