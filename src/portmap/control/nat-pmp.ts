import { readIpv4 } from '../../core/ip.ts'

/** NAT-PMP (RFC 6886) as bytes, for UDP. Servers listen where PCP's do. */

/** Gateways listen here, for both protocols (RFC 6886 §3.1, RFC 6887 §19.1). */
export const SERVER_PORT = 5351
/** Where gateways multicast that they began anew (RFC 6886 §3.2.1, RFC 6887 §14.1.3). */
export const ANNOUNCEMENT_PORT = 5350

export const NatPmpResult = {
  Success: 0,
  UnsupportedVersion: 1,
  NotAuthorized: 2,
  NetworkFailure: 3,
  OutOfResources: 4,
  UnsupportedOpcode: 5,
} as const

/** RFC 6886 §3.2: what is the external address? */
export function encodeAddressRequest(): Uint8Array {
  return new Uint8Array([0, 0])
}

export interface NatPmpMapRequest {
  readonly internalPort: number
  /** A wish; 0 for any, and always 0 with lifetime 0. */
  readonly externalPort: number
  /** Seconds; 0 removes the mapping (§3.4). */
  readonly lifetime: number
}

/** RFC 6886 §3.3. */
export function encodeMapRequest({ internalPort, externalPort, lifetime }: NatPmpMapRequest): Uint8Array {
  const bytes = new Uint8Array(12)
  const view = new DataView(bytes.buffer)
  view.setUint8(1, OPCODE_MAP_UDP)
  view.setUint16(4, internalPort)
  view.setUint16(6, externalPort)
  view.setUint32(8, lifetime)
  return bytes
}

/** `epoch`: seconds since the gateway's table was empty (§3.6). */
export type NatPmpResponse =
  | { readonly type: 'address'; readonly epoch: number; readonly address: string }
  | {
      readonly type: 'map'
      readonly epoch: number
      readonly internalPort: number
      readonly externalPort: number
      readonly lifetime: number
    }
  /** `request`: what was refused; undefined where the gateway did not say. */
  | { readonly type: 'error'; readonly request: 'address' | 'map' | undefined; readonly result: number }

/** @returns undefined for what is no response of NAT-PMP, or one to nothing that we ask. */
export function decodeNatPmp(bytes: Uint8Array): NatPmpResponse | undefined {
  if (bytes.byteLength < 8 || bytes[0] !== 0) return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const opcode = view.getUint8(1)
  const result = view.getUint16(2)
  const epoch = view.getUint32(4)
  // §3.5: "unsupported version" has opcode 0 as the text draws it; gateways also set the top bit, or keep the opcode.
  if (result === NatPmpResult.UnsupportedVersion) return { type: 'error', request: undefined, result }
  if (opcode !== (RESPONSE | OPCODE_ADDRESS) && opcode !== (RESPONSE | OPCODE_MAP_UDP)) return undefined
  const request = opcode === (RESPONSE | OPCODE_ADDRESS) ? 'address' : 'map'
  if (result !== NatPmpResult.Success) return { type: 'error', request, result }
  if (request === 'address') {
    return bytes.byteLength < 12 ? undefined : { type: 'address', epoch, address: readIpv4(bytes, 8) }
  }
  if (bytes.byteLength < 16) return undefined
  return {
    type: 'map',
    epoch,
    internalPort: view.getUint16(8),
    externalPort: view.getUint16(10),
    lifetime: view.getUint32(12),
  }
}

const OPCODE_ADDRESS = 0
const OPCODE_MAP_UDP = 1
const RESPONSE = 0x80
