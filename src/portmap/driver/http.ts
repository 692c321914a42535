import { request } from 'node:http'
import type { HttpRequest, HttpResponse } from '../upnp/http.ts'

/**
 * Does what the UPnP client asks for: one connection, no redirects, a few seconds, and no more than MAX_BODY.
 * `localAddress` is our own address, that the router is to map to. Never rejects.
 */
export function fetchFromGateway(
  { url, body, headers }: HttpRequest,
  localAddress: string,
  signal: AbortSignal,
): Promise<HttpResponse> {
  return new Promise((resolve) => {
    const outgoing = request(url, {
      method: body === undefined ? 'GET' : 'POST',
      headers: {
        ...headers,
        connection: 'close',
        // Small HTTP servers do not know chunks.
        ...(body !== undefined && { 'content-length': Buffer.byteLength(body) }),
      },
      agent: false,
      localAddress,
      maxHeaderSize: 8_192,
      signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT)]),
    })
    outgoing.once('error', () => resolve(undefined))
    outgoing.once('response', (incoming) => {
      const chunks: Buffer[] = []
      let length = 0
      incoming.on('data', (chunk: Buffer) => {
        length += chunk.byteLength
        chunks.push(chunk)
        if (length <= MAX_BODY) return
        resolve(undefined)
        incoming.destroy()
      })
      incoming.once('end', () =>
        resolve({ status: incoming.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8') }),
      )
      incoming.once('error', () => resolve(undefined))
      incoming.once('close', () => resolve(undefined))
    })
    outgoing.end(body)
  })
}

/** Milliseconds, for all of it. */
const TIMEOUT = 5_000
/** The longest description seen of a real router has 30 KB. */
const MAX_BODY = 128 * 1024
