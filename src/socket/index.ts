export { UdpEndpoint } from './endpoint.ts'
export type { Attachment, EndpointCounters, UdpEndpointOptions } from './endpoint.ts'
export type { SocketErrorCode } from './errors.ts'
