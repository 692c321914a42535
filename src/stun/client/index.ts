export {
  AddressKeeper,
  unknownAddress,
  type AddressKeeperOptions,
  type PublicAddress,
  type UnknownReason,
} from './address-keeper.ts'
export { StunClient, type StunClientOptions } from './client.ts'
export {
  defaultTiming,
  type StunTransaction,
  type StunClientEvent,
  type StunRequest,
  type Timing,
} from './transaction.ts'
