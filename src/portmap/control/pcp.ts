import { isIPv4 } from 'node:net'
import { readIpv6, writeIp } from '../../core/ip.ts'

/** PCP version 2 (RFC 6887) as bytes: MAP for UDP, and ANNOUNCE. */

export const NONCE_LENGTH = 12

/** RFC 6887 §7.4. */
export const PcpResult = {
  Success: 0,
  UnsuppVersion: 1,
  NotAuthorized: 2,
  MalformedRequest: 3,
  UnsuppOpcode: 4,
  UnsuppOption: 5,
  MalformedOption: 6,
  NetworkFailure: 7,
  NoResources: 8,
  UnsuppProtocol: 9,
  UserExQuota: 10,
  CannotProvideExternal: 11,
  AddressMismatch: 12,
  ExcessiveRemotePeers: 13,
} as const

export interface PcpMapRequest {
  /** Our own address, as the gateway will see it (§8.1); the mapping leads there. */
  readonly client: string
  /** The same for the life of a mapping: proof that it is ours (§11.2). */
  readonly nonce: Uint8Array
  readonly internalPort: number
  /** Wishes; without them, any of the client's family. */
  readonly external?: { readonly address: string; readonly port: number }
  /** Seconds; 0 removes the mapping (§15). */
  readonly lifetime: number
}

/** RFC 6887 §7.1 and §11.1. */
export function encodePcpMap(request: PcpMapRequest): Uint8Array {
  const bytes = new Uint8Array(HEADER_LENGTH + MAP_LENGTH)
  const view = new DataView(bytes.buffer)
  writeHeader(view, OPCODE_MAP, request.lifetime, request.client)
  bytes.set(request.nonce.subarray(0, NONCE_LENGTH), HEADER_LENGTH)
  view.setUint8(36, PROTOCOL_UDP)
  view.setUint16(40, request.internalPort)
  view.setUint16(42, request.external?.port ?? 0)
  // "No preference" is the unspecified address, and says which family is wanted (§11.1).
  const unspecified = isIPv4(request.client) ? '0.0.0.0' : '::'
  writeAddress(bytes, 44, request.external?.address ?? unspecified)
  return bytes
}

/** RFC 6887 §14.1: are you there, and since when? */
export function encodePcpAnnounce(client: string): Uint8Array {
  const bytes = new Uint8Array(HEADER_LENGTH)
  writeHeader(new DataView(bytes.buffer), OPCODE_ANNOUNCE, 0, client)
  return bytes
}

export interface PcpMapResponse {
  readonly type: 'map'
  readonly result: number
  /** Seconds: of the mapping; with an error, how long the error is likely to last (§7.2). */
  readonly lifetime: number
  /** Seconds since the gateway's table was empty (§8.5). */
  readonly epoch: number
  readonly nonce: Uint8Array
  readonly internalPort: number
  readonly external: { readonly address: string; readonly port: number }
}

export type PcpResponse =
  | PcpMapResponse
  | { readonly type: 'announce'; readonly result: number; readonly epoch: number }
  /** A version that we do not speak, or a gateway that does not speak ours. */
  | { readonly type: 'version' }

/** @returns undefined for what is no response of PCP, or one to nothing that we ask (§8.3). */
export function decodePcp(bytes: Uint8Array): PcpResponse | undefined {
  const { byteLength } = bytes
  if (byteLength < HEADER_LENGTH || byteLength > MAX_LENGTH || byteLength % 4 !== 0) return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset, byteLength)
  const opcode = view.getUint8(1)
  if ((opcode & RESPONSE) === 0) return undefined
  const result = view.getUint8(3)
  if (result === PcpResult.UnsuppVersion) return { type: 'version' }
  if (view.getUint8(0) !== VERSION) return undefined
  const lifetime = view.getUint32(4)
  const epoch = view.getUint32(8)
  if (opcode === (RESPONSE | OPCODE_ANNOUNCE)) return { type: 'announce', result, epoch }
  if (opcode !== (RESPONSE | OPCODE_MAP) || byteLength < HEADER_LENGTH + MAP_LENGTH) return undefined
  if (view.getUint8(36) !== PROTOCOL_UDP) return undefined
  return {
    type: 'map',
    result,
    lifetime,
    epoch,
    nonce: bytes.slice(HEADER_LENGTH, HEADER_LENGTH + NONCE_LENGTH),
    internalPort: view.getUint16(40),
    external: { address: readAddress(bytes, 44), port: view.getUint16(42) },
  }
}

const VERSION = 2
const OPCODE_ANNOUNCE = 0
const OPCODE_MAP = 1
const RESPONSE = 0x80
const PROTOCOL_UDP = 17
const HEADER_LENGTH = 24
const MAP_LENGTH = 36
/** RFC 6887 §7. */
const MAX_LENGTH = 1_100

function writeHeader(view: DataView, opcode: number, lifetime: number, client: string): void {
  view.setUint8(0, VERSION)
  view.setUint8(1, opcode)
  view.setUint32(4, lifetime)
  writeAddress(new Uint8Array(view.buffer), 8, client)
}

// IPv4 goes as an IPv4-mapped IPv6 address (§5).
function writeAddress(bytes: Uint8Array, at: number, address: string): void {
  writeIp(isIPv4(address) ? `::ffff:${address}` : address, bytes, at)
}

function readAddress(bytes: Uint8Array, at: number): string {
  return readIpv6(bytes, at).replace(/^::ffff:(?=.*\.)/, '')
}
