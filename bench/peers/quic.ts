import { generateKeyPairSync } from 'node:crypto'
import { Duplex } from 'node:stream'
import type { Peer } from '../peer.ts'

/**
 * QUIC by quinn, in the binding of `@chainsafe/libp2p-quic`: used without libp2p around it, which would only cost it.
 * One connection with one stream for each dial; encrypted, as QUIC always is.
 */
export const peer: Peer = {
  name: 'QUIC (quinn)',

  async listen(host, onStream) {
    const { Server, QuinnConfig } = await loadBinding()
    const server = new Server(new QuinnConfig(settings()), host, 0)
    void (async () => {
      for (;;) {
        const connection = await server.inboundConnection()
        void connection.inboundStream().then((stream) => onStream(new QuicDuplex(stream, connection)))
      }
    })()
    return { host, port: server.port() }
  },

  async dialer() {
    const { Client, QuinnConfig } = await loadBinding()
    const client = new Client(new QuinnConfig(settings()), 0)
    return async (to) => {
      const connection = await client.outboundConnection(to.host, to.port)
      return new QuicDuplex(await connection.outboundStream(), connection)
    }
  },
}

class QuicDuplex extends Duplex {
  readonly #stream: QuicStream
  readonly #connection: QuicConnection

  constructor(stream: QuicStream, connection: QuicConnection) {
    super({ readableHighWaterMark: CHUNK, writableHighWaterMark: CHUNK })
    this.#stream = stream
    this.#connection = connection
  }

  override _write(chunk: Buffer, _encoding: string, callback: (error?: Error | null) => void): void {
    this.#stream.write(chunk).then(() => callback(), callback)
  }

  override _read(): void {
    this.#stream.read(CHUNK).then(
      (chunk) => this.push(chunk ?? null),
      () => this.push(null),
    )
  }

  override _final(callback: (error?: Error | null) => void): void {
    this.#stream.finishWrite().then(() => callback(), callback)
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#connection.abort()
    callback(error)
  }
}

/** Larger reads than libp2p's own 4,096 bytes: quinn shall have its best. */
const CHUNK = 64 * 1024

interface QuicStream {
  write(bytes: Uint8Array): Promise<void>
  read(most: number): Promise<Uint8Array | null>
  finishWrite(): Promise<void>
}
interface QuicConnection {
  inboundStream(): Promise<QuicStream>
  outboundStream(): Promise<QuicStream>
  abort(): void
}
interface Binding {
  QuinnConfig: new (settings: object) => object
  Server: new (
    config: object,
    host: string,
    port: number,
  ) => {
    port(): number
    inboundConnection(): Promise<QuicConnection>
  }
  Client: new (
    config: object,
    family: 0 | 1,
  ) => { outboundConnection(host: string, port: number): Promise<QuicConnection> }
}

async function loadBinding(): Promise<Binding> {
  const main = import.meta.resolve('@chainsafe/libp2p-quic')
  return (await import(new URL('./napi.js', main).href)) as Binding
}

// The package's own defaults but for the sockets' buffers, which are those of the others, with a key of libp2p's kind: a protobuf of type 1 (Ed25519) and 64 bytes.
function settings(): object {
  const { d = '', x = '' } = generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' })
  const head = Buffer.from([8, 1, 18, 64])
  return {
    privateKeyProto: Buffer.concat([head, Buffer.from(d, 'base64url'), Buffer.from(x, 'base64url')]),
    ...{ handshakeTimeout: 5_000, maxIdleTimeout: 10_000, keepAliveInterval: 5_000 },
    ...{ maxConcurrentStreamLimit: 256, maxStreamData: 10_000_000, maxConnectionData: 15_000_000 },
    ...{ receiveBufferSize: 4 << 20, sendBufferSize: 4 << 20 },
  }
}
