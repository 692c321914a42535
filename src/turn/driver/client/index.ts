export {
  connectRelay,
  connectTcpRelay,
  type ConnectRelayOptions,
  type ConnectTcpRelayOptions,
} from './connect.ts'
export { openRelayOverUdp, type OnRelayedData, type OpenRelayOptions } from './open.ts'
export { RelayAllocation, type RelayEvents } from './relay.ts'
export {
  resolveTurn,
  type ResolveOptions,
  type TurnResolver,
  type TurnTarget,
  type TurnTransport,
} from './resolve.ts'
export { TcpRelayAllocation, type TcpRelayEvents } from './tcp.ts'
