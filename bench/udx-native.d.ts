// What the benchmark uses of udx-native, which ships no types.
declare module 'udx-native' {
  import type { EventEmitter } from 'node:events'
  import type { Duplex } from 'node:stream'

  interface Socket extends EventEmitter<{ message: [Buffer, { host: string; port: number }] }> {
    bind(port: number, host: string): void
    address(): { host: string; port: number }
    trySend(message: Buffer, port: number, host: string): void
  }

  interface Stream extends Duplex {
    connect(socket: Socket, remoteId: number, port: number, host: string): void
  }

  export default class UDX {
    createSocket(): Socket
    createStream(id: number): Stream
  }
}
