import { kinds } from '../../sim/kinds.ts'
import type { Scenario, Who } from '../../sim/scenario.ts'
import type { Site } from '../topology.ts'

/** Where the two peers of a scenario are. */
export interface Places {
  readonly sites: Readonly<Record<string, Site>>
  readonly peers: Readonly<Record<Who, Place>>
}

export interface Place {
  /** The peer's host. */
  readonly host: string
  /** Its routers' names, from the client to the core; shared ones included. */
  readonly routers: readonly string[]
  /** Its addresses are translated on the way out. */
  readonly isTranslated: boolean
  /** It reaches IPv4 through NAT64. */
  readonly nat64: boolean
}

/** @param number different for every scenario of a lab */
export function placesFor({ kinds: { a, b }, together }: Scenario, number: number): Places {
  const [siteA, siteB] = [`a${number}x`, `b${number}x`]
  const share = (together ?? a === b) && a === b ? kinds[a].shared : 'nothing'
  const roles = (kind: typeof a, site: string): string[] =>
    kinds[kind].routers.map(({ role }) => `${site}-${role}`)
  const place = (kind: typeof a, host: string, routers: readonly string[]): Place => ({
    host,
    routers,
    isTranslated: kinds[kind].routers.some(({ translation }) => translation !== 'none'),
    nat64: kinds[kind].routers.some(({ translation }) => translation === 'nat64'),
  })
  const first = place(a, `${siteA}1`, roles(a, siteA))
  if (share === 'router') {
    return {
      sites: { [siteA]: { routers: [a], clients: 2 } },
      peers: { a: first, b: place(b, `${siteA}2`, first.routers) },
    }
  }
  if (share === 'carrier') {
    const inner: Site = { routers: kinds[b].routers.slice(0, -1), behind: siteA }
    const routers = [...roles(b, siteB).slice(0, -1), ...first.routers.slice(-1)]
    return {
      sites: { [siteA]: { routers: [a] }, [siteB]: inner },
      peers: { a: first, b: place(b, `${siteB}1`, routers) },
    }
  }
  return {
    sites: { [siteA]: { routers: [a] }, [siteB]: { routers: [b] } },
    peers: { a: first, b: place(b, `${siteB}1`, roles(b, siteB)) },
  }
}
