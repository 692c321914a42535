export type { UtpServerErrorCode } from './errors.ts'
export { UtpServer, type UtpConnectOptions, type UtpServerOptions } from './server.ts'
export { UtpStream, type UtpStreamState } from './stream.ts'
