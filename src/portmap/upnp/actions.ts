import { isIPv4 } from 'node:net'
import type { SocketAddress } from '../../core/address.ts'
import type { Rng } from '../../core/ports.ts'
import { connectionServices, type ConnectionService } from './description.ts'
import type { HttpRequest, HttpResponse } from './http.ts'
import { decodeAction, encodeAction, UpnpError, type ActionResult } from './soap.ts'
import { textOf } from './xml.ts'

/**
 * What is done with a gateway's services, step by step. A procedure yields each HTTP request and is resumed with its
 * response; so it needs no I/O of its own.
 */
export type Procedure<Result> = Generator<Omit<HttpRequest, 'id'>, Result, HttpResponse>

export interface Gateway {
  readonly service: ConnectionService
  /** As the gateway says; undefined when it does not. */
  readonly address: string | undefined
}

/** The service to use of the device described at `location`: of several, one that is connected. */
export function* inspect(location: URL): Procedure<Gateway | undefined> {
  const response = yield { url: location, headers: {} }
  const services = response?.status === 200 ? connectionServices(response.body, location) : []
  let first: Gateway | undefined
  for (const service of services) {
    const status = yield* act(service, 'GetStatusInfo', {})
    const gateway = { service, address: yield* externalAddress(service) }
    if (status?.ok === true && textOf(status.values, 'NewConnectionStatus') === 'Connected') return gateway
    first ??= gateway
  }
  return first
}

/** WANIPConnection:1 §2.4.18. */
export function* externalAddress(service: ConnectionService): Procedure<string | undefined> {
  const result = yield* act(service, 'GetExternalIPAddress', {})
  const address = result?.ok === true ? textOf(result.values, 'NewExternalIPAddress') : undefined
  return address !== undefined && isIPv4(address) ? address : undefined
}

export type Granted =
  | { readonly ok: true; readonly port: number; /** Seconds. */ readonly lifetime: number }
  /** `code` is undefined when the gateway did not answer. */
  | { readonly ok: false; readonly code: number | undefined; readonly description: string }

/**
 * Maps an external port, `wanted` if it is free. The same request again renews.
 *
 * @param lease seconds to ask for.
 */
export function* addMapping(
  service: ConnectionService,
  internal: SocketAddress,
  wanted: number,
  lease: number,
  rng: Rng,
): Procedure<Granted> {
  let lifetime = lease
  let port = wanted
  // Version 2 finds a free port by itself (WANIPConnection:2 §2.5.18); few take it as the optional action it is.
  let action: 'AddAnyPortMapping' | 'AddPortMapping' =
    service.version === 2 ? 'AddAnyPortMapping' : 'AddPortMapping'
  for (let attempt = 1; ; attempt++) {
    const result = yield* act(service, action, mappingArguments(internal, port, lifetime))
    if (result === undefined) return { ok: false, code: undefined, description: '' }
    if (result.ok) {
      const reserved =
        action === 'AddAnyPortMapping' ? textOf(result.values, 'NewReservedPort') : String(port)
      const given = /^\d{1,5}$/.test(reserved ?? '') ? Number(reserved) : 0
      if (given > 0 && given <= 65535) return { ok: true, port: given, lifetime: lifetime || Infinity }
      return { ok: false, code: 0, description: 'the router names no port' }
    }
    const next = afterError(result.code, action)
    if (next === undefined || attempt === MAX_ATTEMPTS) return result
    if (next === 'permanent') lifetime = 0
    if (next === 'other-port') port = 1024 + (rng.uint32() % (65536 - 1024))
    if (next === 'older-action') action = 'AddPortMapping'
  }
}

/** Whether the gateway still forwards the port to us. */
export function* findMapping(
  service: ConnectionService,
  internal: SocketAddress,
  port: number,
): Procedure<'present' | 'gone' | 'no-answer'> {
  const result = yield* act(service, 'GetSpecificPortMappingEntry', entryArguments(port))
  if (result === undefined) return 'no-answer'
  if (!result.ok) return result.code === UpnpError.NoSuchEntryInArray ? 'gone' : 'present'
  const client = textOf(result.values, 'NewInternalClient')
  const internalPort = textOf(result.values, 'NewInternalPort')
  return client === internal.address && internalPort === String(internal.port) ? 'present' : 'gone'
}

export function* removeMapping(service: ConnectionService, port: number): Procedure<void> {
  yield* act(service, 'DeletePortMapping', entryArguments(port))
}

function* act(
  service: ConnectionService,
  action: string,
  args: Readonly<Record<string, string>>,
): Procedure<ActionResult | undefined> {
  const response = yield {
    url: service.controlUrl,
    headers: { 'content-type': 'text/xml; charset="utf-8"', soapaction: `"${service.type}#${action}"` },
    body: encodeAction(service.type, action, args),
  }
  return response && decodeAction(action, response.status, response.body)
}

/** What another attempt would have to do differently. */
function afterError(
  code: number,
  action: 'AddAnyPortMapping' | 'AddPortMapping',
): 'permanent' | 'other-port' | 'older-action' | undefined {
  switch (code) {
    case UpnpError.OnlyPermanentLeasesSupported:
      return 'permanent'
    case UpnpError.ConflictInMappingEntry:
    case UpnpError.ConflictWithOtherMechanisms:
      return 'other-port'
    case UpnpError.InvalidAction:
    case UpnpError.OptionalActionNotImplemented:
      return action === 'AddAnyPortMapping' ? 'older-action' : undefined
    default:
      return undefined
  }
}

/** The order counts for some devices: it is that of WANIPConnection:1 §2.4.16. */
function mappingArguments(internal: SocketAddress, port: number, lifetime: number): Record<string, string> {
  return {
    ...entryArguments(port),
    NewInternalPort: String(internal.port),
    NewInternalClient: internal.address,
    NewEnabled: '1',
    NewPortMappingDescription: 'natwork',
    NewLeaseDuration: String(lifetime),
  }
}

function entryArguments(port: number): Record<string, string> {
  return { NewRemoteHost: '', NewExternalPort: String(port), NewProtocol: 'UDP' }
}

/** Of a port that is taken, of a lease that is not to end, in any order. */
const MAX_ATTEMPTS = 5
