// What tests and benchmarks use of utp-native, which ships no types.
declare module 'utp-native' {
  import type { EventEmitter } from 'node:events'
  import type { Duplex } from 'node:stream'

  interface Options {
    allowHalfOpen?: boolean
  }

  export interface Connection extends Duplex {
    readonly remoteAddress: string
    readonly remotePort: number
  }

  export interface Utp extends EventEmitter<{
    listening: []
    close: []
    connection: [Connection]
    error: [Error]
  }> {
    bind(port: number, host: string): void
    listen(port: number, host: string): void
    address(): { address: string; port: number }
    connect(port: number, host: string): Connection
    setRecvBufferSize(bytes: number): void
    setSendBufferSize(bytes: number): void
    close(done?: () => void): void
  }

  interface Module {
    (options?: Options): Utp
    createServer(options: Options, onConnection: (connection: Connection) => void): Utp
  }

  const utp: Module
  export default utp
}
