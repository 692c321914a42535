import { createHash } from 'node:crypto'
import { once } from 'node:events'
import type { Readable } from 'node:stream'
import type { TestContext } from 'node:test'
import { UtpServer, type UtpServerOptions, type UtpStream } from '../../../src/utp/driver/index.ts'

/** A started server that the test's end stops. */
export async function serve(t: TestContext, options: UtpServerOptions = {}): Promise<UtpServer> {
  const server = new UtpServer({ host: '127.0.0.1', port: 0, ...options })
  await server.start()
  t.after(() => server.stop({ timeout: 0 }))
  return server
}

/** Two servers and a connection between them. */
export async function connectedPair(
  t: TestContext,
  options: UtpServerOptions = {},
): Promise<{ near: UtpStream; far: UtpStream; client: UtpServer; server: UtpServer }> {
  let resolve: (stream: UtpStream) => void = () => undefined
  const promise = new Promise<UtpStream>((accept) => {
    resolve = accept
  })
  t.after(() => {
    // The end of the test resets what it left open.
    for (const end of [client, server]) {
      for (const stream of end.connections.values()) stream.on('error', () => undefined)
    }
  })
  const server = await serve(t, { ...options, onConnection: (stream) => resolve(stream) })
  const client = await serve(t, options)
  const near = await client.connect(server.address)
  return { near, far: await promise, client, server }
}

/** Reads to the end, and leaves the other direction alone. */
export async function sha256(stream: Readable): Promise<{ hash: string; length: number }> {
  const hash = createHash('sha256')
  let length = 0
  stream.on('data', (chunk: Uint8Array) => {
    hash.update(chunk)
    length += chunk.byteLength
  })
  await once(stream, 'end')
  return { hash: hash.digest('hex'), length }
}

/** Bytes that are the same in every run and repeat nowhere near. */
export function bytes(length: number): Buffer {
  const made = Buffer.allocUnsafe(length)
  let state = 0x2545f491
  for (let at = 0; at < length; at++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    made[at] = state
  }
  return made
}

export function hashOf(data: Uint8Array): { hash: string; length: number } {
  return { hash: createHash('sha256').update(data).digest('hex'), length: data.byteLength }
}

/** Turns the loop until it holds; the test's own time limit ends it. */
export async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise(setImmediate)
}
