import { urlOn } from './ssdp.ts'
import { allNamed, parseXml, textOf } from './xml.ts'

/** A service of a gateway that maps ports: WANIPConnection, or WANPPPConnection of old DSL routers. */
export interface ConnectionService {
  /** The URN, which every action repeats. */
  readonly type: string
  readonly version: 1 | 2
  readonly controlUrl: URL
}

/**
 * The port-mapping services in a device description (UPnP Device Architecture 1.1 §2.3), those of version 2 first.
 * Only control URLs on the host that the description came from are taken. At most MAX_SERVICES.
 */
export function connectionServices(xml: string, location: URL): ConnectionService[] {
  const document = parseXml(xml)
  if (document === undefined) return []
  // §2.3: deprecated since 1.1, and devices of 1.0 mean it.
  const [base] = allNamed(document, 'URLBase')
  const root = (typeof base === 'string' && base !== '' && urlOn(location.hostname, base)) || location
  return allNamed(document, 'service')
    .slice(0, MAX_LISTED)
    .flatMap((service) => {
      const type = textOf(service, 'serviceType') ?? ''
      const version = WAN_CONNECTION.exec(type)?.[1]
      const controlUrl = urlOn(location.hostname, textOf(service, 'controlURL') ?? '', root)
      if (version === undefined || controlUrl === undefined) return []
      return [{ type, version: version === '2' ? (2 as const) : (1 as const), controlUrl }]
    })
    .sort((a, b) => b.version - a.version)
    .slice(0, MAX_SERVICES)
}

const WAN_CONNECTION = /^urn:schemas-upnp-org:service:(?:WANIPConnection|WANPPPConnection):([12])$/
/** Of any kind: routers have a dozen. */
const MAX_LISTED = 100
const MAX_SERVICES = 4
