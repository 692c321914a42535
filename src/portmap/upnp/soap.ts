import { childOf, allNamed, escapeXml, parseXml, textOf, type XmlNode } from './xml.ts'

/** What a UPnP action answered. */
export type ActionResult =
  | { readonly ok: true; readonly values: XmlNode | undefined }
  /** `code` as in {@link UpnpError}; 0 where the device gave none. */
  | { readonly ok: false; readonly code: number; readonly description: string }

/** Of WANIPConnection:1 and :2 (§2.4 and §2.5 of either), and the architecture's own (§3.2.2). */
export const UpnpError = {
  InvalidAction: 401,
  InvalidArgs: 402,
  OptionalActionNotImplemented: 602,
  ActionNotAuthorized: 606,
  NoSuchEntryInArray: 714,
  ConflictInMappingEntry: 718,
  SamePortValuesRequired: 724,
  OnlyPermanentLeasesSupported: 725,
  NoPortMapsAvailable: 728,
  ConflictWithOtherMechanisms: 729,
} as const

/** The body of a control request (UPnP Device Architecture 1.1 §3.2.1). Arguments in the order of the service's text. */
export function encodeAction(
  serviceType: string,
  action: string,
  args: Readonly<Record<string, string>>,
): string {
  const inner = Object.entries(args).map(([name, value]) => `<${name}>${escapeXml(value)}</${name}>`)
  return [
    '<?xml version="1.0"?>\r\n',
    '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" ',
    's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>',
    `<u:${action} xmlns:u="${escapeXml(serviceType)}">${inner.join('')}</u:${action}>`,
    '</s:Body></s:Envelope>\r\n',
  ].join('')
}

/** @param status of HTTP: a UPnP error comes with 500. */
export function decodeAction(action: string, status: number, xml: string): ActionResult {
  const document = parseXml(xml)
  const body = childOf(childOf(document, 'Envelope'), 'Body')
  const response = childOf(body, `${action}Response`)
  if (status === 200 && response !== undefined) return { ok: true, values: response }
  const [error] = document === undefined ? [] : allNamed(document, 'UPnPError')
  const code = Number(textOf(error, 'errorCode'))
  return {
    ok: false,
    code: Number.isInteger(code) && code > 0 && code < 1_000 ? code : 0,
    description: forPeople(textOf(error, 'errorDescription')) ?? `HTTP status ${status}`,
  }
}

/** A device's words go into messages: printable, and not many of them. */
function forPeople(text: string | undefined): string | undefined {
  return text?.replace(/[^ -~]/g, '').slice(0, 100)
}
