import { familyOf, formatAddress, sameAddress, type SocketAddress } from '../../core/address.ts'
import {
  filteringMeans,
  hairpinMeans,
  mappingMeans,
  translationMeans,
  unknown,
  type BehaviourReport,
  type Dependence,
  type Hairpin,
  type Observation,
  type Translation,
  type Finding,
} from './report.ts'

/** A server with RFC 5780's two addresses and ports: where it was asked, and its other address with its other port. */
export interface FullServer {
  readonly server: SocketAddress
  readonly other: SocketAddress
}

/** Collects what was seen, and says what it shows. */
export class Judge {
  /** Undefined: not tried. */
  readonly filtering: { fromOther?: boolean; fromPort?: boolean } = {}
  readonly #local: readonly SocketAddress[]
  readonly #greetings: Observation[] = []
  readonly #looks: Observation[] = []
  #full: FullServer | undefined

  constructor(local: readonly SocketAddress[]) {
    this.#local = local
  }

  greeted(observation: Observation): void {
    this.#greetings.push(observation)
  }

  offer(server: FullServer): void {
    this.#full ??= server
  }

  /** The first server that can do all of RFC 5780. */
  get full(): FullServer | undefined {
    return this.#full
  }

  looked(observation: Observation): void {
    this.#looks.push(observation)
  }

  /** Did every address so far see the same? Then the mapping tests are over (RFC 5780 §4.3). */
  get looksIndependent(): boolean {
    return allSame(this.#answers)
  }

  /**
   * Where the hairpin probe goes: our public address, in the form in which `server` is reached. None without a
   * translation, or without an answer.
   */
  hairpinTarget(server: SocketAddress | undefined): SocketAddress | undefined {
    const mapped = this.#answers[0]?.mapped
    if (mapped === undefined || server === undefined || this.#translation !== 'nat') return undefined
    return familyOf(mapped.address) === familyOf(server.address) ? mapped : undefined
  }

  report(hairpin: Hairpin | undefined): BehaviourReport {
    const observations = [...this.#greetings, ...this.#looks]
    const words = observations.map(inWords)
    if (this.#answers.length === 0) return silent(observations, words)
    const mapping = this.#judgeMapping()
    const translation = this.#translation
    return {
      udp: {
        value: true,
        certain: true,
        observations: words,
        meaning: 'UDP passes: direct connections are possible',
      },
      translation: {
        value: translation,
        certain: true,
        observations: [`own: ${this.#local.map(formatAddress).join(', ')}`, ...words],
        meaning: translationMeans[translation],
      },
      publicAddress: this.#judgeAddress(mapping),
      mapping,
      filtering: this.#judgeFiltering(),
      hairpin: this.#judgeHairpin(hairpin, mapping),
      endpoints: this.#endpoints(),
      observations,
    }
  }

  /** Those this socket has not asked first. */
  #endpoints(): SocketAddress[] {
    const asked = this.#answers.map(({ server }) => server)
    if (this.#full === undefined) return asked
    const { server, other } = this.#full
    const four = [
      { address: server.address, port: other.port },
      other,
      { address: other.address, port: server.port },
    ]
    const rest = four.filter((one) => asked.every((known) => !sameAddress(one, known)))
    return [...rest, ...asked]
  }

  get #answers(): (Observation & { readonly mapped: SocketAddress })[] {
    return [...this.#greetings, ...this.#looks].filter(hasMapped)
  }

  get #translation(): Translation {
    const [first] = this.#answers
    if (first === undefined || this.#local.some((own) => sameAddress(own, first.mapped))) return 'none'
    return familyOf(first.server.address) === 6 && familyOf(first.mapped.address) === 4 ? 'nat64' : 'nat'
  }

  #judgeMapping(): Finding<Dependence> {
    const answers = this.#answers
    const observations = answers.map(inWords)
    const judged = (value: Dependence, certain: boolean): Finding<Dependence> => ({
      value,
      certain,
      observations,
      meaning: mappingMeans[value],
    })
    if (new Set(answers.map(({ server }) => server.address)).size < 2) {
      return unknown(
        'only one server address has answered: a second one, or a server with RFC 5780, is needed',
      )
    }
    if (allSame(answers)) {
      // What keeps its own port everywhere may still map each destination apart: it shows when another client has the port.
      const kept = answers.some(({ mapped }) => this.#local.some(({ port }) => port === mapped.port))
      return judged('endpoint-independent', !kept || this.#translation === 'none')
    }
    // Two ports of one address tell the two others apart. All that can be compared must agree: with a NAT that keeps
    // ports, three of four endpoints may see the same port by luck.
    const hosts = new Set(answers.map(({ server }) => server.address))
    const groups = [...hosts].map((host) => answers.filter(({ server }) => server.address === host))
    if (groups.some((group) => !allSame(group))) return judged('address-and-port-dependent', true)
    return groups.some((group) => group.length > 1)
      ? judged('address-dependent', true)
      : judged('address-and-port-dependent', false)
  }

  #judgeAddress(mapping: Finding<Dependence>): Finding<SocketAddress> {
    const answers = this.#answers
    const observations = answers.map(inWords)
    if (mapping.value !== undefined && mapping.value !== 'endpoint-independent') {
      return {
        value: undefined,
        certain: mapping.certain,
        observations,
        meaning: `every destination sees another address of ${ipsOf(answers)}: none can be told to others in advance`,
      }
    }
    return {
      value: answers[0]?.mapped,
      // One observer may be wrong or lie.
      certain: mapping.value !== undefined,
      observations,
      meaning: 'what others may use to reach this socket, as far as the filter lets them',
    }
  }

  #judgeFiltering(): Finding<Dependence> {
    const { fromOther, fromPort } = this.filtering
    if (fromOther === undefined || this.#full === undefined) {
      return unknown('no server can answer from a second address (RFC 5780): only such a one can tell')
    }
    const { server, other } = this.#full
    const passed = (yes: boolean): string => (yes ? 'came in' : 'did not come in')
    const observations = [
      `asked ${formatAddress(server)}: an answer from ${formatAddress(other)} ${passed(fromOther)}`,
    ]
    if (fromPort !== undefined) {
      observations.push(`an answer from its other port ${other.port} ${passed(fromPort)}`)
    }
    const value: Dependence = fromOther
      ? 'endpoint-independent'
      : fromPort === true
        ? 'address-dependent'
        : 'address-and-port-dependent'
    // Silence may be loss, or a server that cannot do what it says.
    return { value, certain: fromOther, observations, meaning: filteringMeans[value] }
  }

  #judgeHairpin(seen: Hairpin | undefined, mapping: Finding<Dependence>): Finding<Hairpin> {
    if (seen === undefined) {
      return this.#translation === 'none'
        ? {
            value: 'none',
            certain: true,
            observations: ['no address is translated: there is nothing to send back in'],
            meaning: 'two nodes of this network use the addresses they have',
          }
        : unknown('not tested: no way to the own public address was known')
    }
    return {
      value: seen,
      // With a new mapping per destination the filter may have dropped what did come back.
      certain: seen !== 'none' || mapping.value === 'endpoint-independent',
      observations: [
        seen === 'none'
          ? 'packets to the own public address did not come back'
          : `a packet to the own public address came back, with the ${seen.replace('-source', '')} address as its source`,
      ],
      meaning: hairpinMeans[seen],
    }
  }
}

function silent(observations: readonly Observation[], words: readonly string[]): BehaviourReport {
  const why = 'no server has answered'
  return {
    udp: {
      value: false,
      certain: observations.length > 1,
      observations: words,
      meaning: 'UDP does not pass, or the servers are down: only a relay over TCP or TLS helps',
    },
    translation: unknown(why),
    publicAddress: unknown(why),
    mapping: unknown(why),
    filtering: unknown(why),
    hairpin: unknown(why),
    endpoints: [],
    observations,
  }
}

function hasMapped(one: Observation): one is Observation & { readonly mapped: SocketAddress } {
  return one.mapped !== undefined
}

function allSame(answers: readonly { readonly mapped: SocketAddress }[]): boolean {
  const [first] = answers
  return first !== undefined && answers.every(({ mapped }) => sameAddress(mapped, first.mapped))
}

function ipsOf(answers: readonly { readonly mapped: SocketAddress }[]): string {
  return [...new Set(answers.map(({ mapped }) => mapped.address))].join(', ')
}

function inWords({ server, mapped }: Observation): string {
  return mapped === undefined
    ? `${formatAddress(server)} did not answer`
    : `${formatAddress(server)} sees ${formatAddress(mapped)}`
}
