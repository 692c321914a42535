import type { SocketAddress } from '../../core/address.ts'

/** SSDP: how a UPnP control point finds devices (UPnP Device Architecture 1.1 §1.3). */

export const SSDP_GROUP: SocketAddress = { address: '239.255.255.250', port: 1900 }

/** Devices of version 2 answer to version 1 as well; some old ones only say that they are a root device. */
export const SEARCH_TARGETS = [
  'urn:schemas-upnp-org:device:InternetGatewayDevice:1',
  'upnp:rootdevice',
] as const

/** UPnP Device Architecture 1.1 §1.3.2. MX 1: the answer comes within a second. */
export function encodeSearch(target: string): Uint8Array {
  return Buffer.from(
    [
      'M-SEARCH * HTTP/1.1',
      `HOST: ${SSDP_GROUP.address}:${SSDP_GROUP.port}`,
      'MAN: "ssdp:discover"',
      'MX: 1',
      `ST: ${target}`,
      '',
      '',
    ].join('\r\n'),
  )
}

/**
 * Where the answering device describes itself. Only a plain `http` URL on the very host that answers is taken: a
 * stranger on the LAN must not be able to send us anywhere else.
 *
 * @returns undefined for what is no response to a search, or points elsewhere.
 */
export function decodeSearchResponse(bytes: Uint8Array, from: string): URL | undefined {
  if (bytes.byteLength > MAX_LENGTH) return undefined
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
  if (!/^HTTP\/1\.[01] 200\b/i.test(text)) return undefined
  const location = /^location:[ \t]*(\S+)[ \t]*\r?$/im.exec(text)?.[1]
  return location === undefined ? undefined : urlOn(from, location)
}

/** `text` as a URL, relative to `base`, if it is a plain `http` one on that host; else undefined. */
export function urlOn(host: string, text: string, base?: URL): URL | undefined {
  if (text.length > MAX_LENGTH || !URL.canParse(text, base?.href)) return undefined
  const url = new URL(text, base)
  const isPlain = url.protocol === 'http:' && url.username === '' && url.password === ''
  return isPlain && url.hostname === host && url.port !== '0' ? url : undefined
}

/** A datagram on an Ethernet; URLs inside are shorter. */
const MAX_LENGTH = 1_500
