export { RelayHost, type RelayHostOptions, type RelayHostSettings } from './host.ts'
export { DEFAULT_PORTS, type RelayAddress } from './ports.ts'
export { TurnService, type TlsFiles, type TurnListen, type TurnServiceOptions } from './service.ts'
