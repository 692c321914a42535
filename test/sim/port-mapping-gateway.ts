import type { SocketAddress } from '../../src/core/address.ts'
import { MILLISECOND, SECOND, type Micros } from '../../src/core/machine.ts'
import { GatewayMapper, type GatewayEvent } from '../../src/portmap/gateway.ts'
import type { HttpRequest, HttpResponse } from '../../src/portmap/upnp/http.ts'

export const GATEWAY = '192.168.1.1'
export const CLIENT: SocketAddress = { address: '192.168.1.10', port: 1315 }
const IGD = 'urn:schemas-upnp-org:service:WANIPConnection:'

export interface GatewayOptions {
  readonly pcp?: boolean
  /** `deaf`: says nothing to other versions, against RFC 6886 §3.5. */
  readonly natPmp?: boolean | 'deaf'
  readonly upnp?: false | 1 | 2
  readonly external?: string
  /** Seconds; default: what is asked for. */
  readonly longestLifetime?: number
  /** PCP result code for every MAP. */
  readonly pcpResult?: number
  readonly natPmpResult?: number
  /** UPnP error code for a request to map, or undefined to grant it. */
  readonly upnpError?: (action: string, body: string) => number | undefined
  /** Where its descriptions are; default: on itself. */
  readonly location?: string
}

interface Held {
  readonly internal: SocketAddress
  readonly nonce: string
  expiresAt: Micros
}

/** A router in virtual time, written from the RFCs' drawings and not with the codec that it is to test. */
export class FakeGateway {
  options: GatewayOptions
  readonly held = new Map<number, Held>()
  /** What was asked, and when. */
  readonly log: { at: Micros; what: string }[] = []
  epochAt: Micros = 0
  isOn = true

  constructor(options: GatewayOptions) {
    this.options = options
  }

  get external(): string {
    return this.options.external ?? '203.0.113.5'
  }

  /** Forgets everything and begins to count anew. */
  reboot(now: Micros): void {
    this.held.clear()
    this.epochAt = now
  }

  times(what: string): Micros[] {
    return this.log.filter((entry) => entry.what === what).map(({ at }) => at)
  }

  datagram(now: Micros, from: SocketAddress, to: SocketAddress, data: Buffer): Buffer[] {
    if (!this.isOn) return []
    if (to.port === 1900) return this.#ssdp(now, data)
    if (to.address !== GATEWAY || to.port !== 5351) return []
    return data[0] === 0 ? this.#natPmp(now, from, data) : this.#pcp(now, from, data)
  }

  /** The multicast to port 5350 after a start. */
  announcement(now: Micros, protocol: 'pcp' | 'nat-pmp'): Buffer {
    if (protocol === 'nat-pmp') return this.#natPmpAddress(now)
    return pcpHeader(0x80, 0, 0, this.#epoch(now))
  }

  http(now: Micros, { url, body }: HttpRequest): HttpResponse {
    if (!this.isOn || this.options.upnp === undefined || this.options.upnp === false) return undefined
    if (url.hostname !== GATEWAY) throw new Error(`a request to ${url.href}`)
    if (body === undefined) return { status: 200, body: description(this.options.upnp) }
    const action = /<u:(\w+) /.exec(body)?.[1] ?? ''
    this.log.push({ at: now, what: action })
    return this.#soap(now, action, body)
  }

  #epoch(now: Micros): number {
    return Math.floor((now - this.epochAt) / SECOND)
  }

  #granted(lifetime: number): number {
    return Math.min(lifetime, this.options.longestLifetime ?? Infinity)
  }

  #hold(now: Micros, internal: SocketAddress, wanted: number, lifetime: number, nonce: string): number {
    for (const [port, entry] of this.held) {
      if (entry.internal.port === internal.port) {
        entry.expiresAt = now + lifetime * SECOND
        return port
      }
    }
    let port = wanted || internal.port
    while (this.held.has(port)) port += 1
    this.held.set(port, { internal, nonce, expiresAt: now + lifetime * SECOND })
    return port
  }

  #drop(internalPort: number): void {
    for (const [port, { internal }] of this.held) if (internal.port === internalPort) this.held.delete(port)
  }

  #pcp(now: Micros, from: SocketAddress, data: Buffer): Buffer[] {
    const opcode = data[1]!
    const lifetime = data.readUInt32BE(4)
    this.log.push({
      at: now,
      what: opcode === 0 ? 'pcp announce' : lifetime === 0 ? 'pcp remove' : 'pcp map',
    })
    if (this.options.pcp !== true) {
      if (this.options.natPmp !== true) return []
      const refusal = Buffer.from([0, 0, 0, 1, 0, 0, 0, 0])
      refusal.writeUInt32BE(this.#epoch(now), 4)
      return [refusal]
    }
    if (opcode === 0) return [pcpHeader(0x80, 0, 0, this.#epoch(now))]
    const payload = Buffer.from(data.subarray(24, 60))
    const nonce = payload.toString('hex', 0, 12)
    const internal = { address: from.address, port: data.readUInt16BE(40) }
    const stranger = [...this.held.values()].some(
      (entry) => entry.internal.port === internal.port && entry.nonce !== nonce,
    )
    const result = this.options.pcpResult ?? (stranger ? 2 : 0)
    if (result !== 0) return [Buffer.concat([pcpHeader(0x81, result, 90, this.#epoch(now)), payload])]
    if (lifetime === 0) {
      this.#drop(internal.port)
      return [Buffer.concat([pcpHeader(0x81, 0, 0, this.#epoch(now)), payload])]
    }
    const granted = this.#granted(lifetime)
    payload.writeUInt16BE(this.#hold(now, internal, data.readUInt16BE(42), granted, nonce), 18)
    payload.set([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ...this.external.split('.').map(Number)], 20)
    return [Buffer.concat([pcpHeader(0x81, 0, granted, this.#epoch(now)), payload])]
  }

  #natPmp(now: Micros, from: SocketAddress, data: Buffer): Buffer[] {
    const lifetime = data.length === 12 ? data.readUInt32BE(8) : 0
    const what = data[1] === 0 ? 'address' : lifetime === 0 ? 'remove' : 'map'
    this.log.push({ at: now, what: `nat-pmp ${what}` })
    const { natPmp, natPmpResult = 0 } = this.options
    if (natPmp === undefined || natPmp === false) return []
    if (data[1] === 0) return [this.#natPmpAddress(now)]
    const response = Buffer.alloc(16)
    response.set([0, 0x81])
    response.writeUInt16BE(natPmpResult, 2)
    response.writeUInt32BE(this.#epoch(now), 4)
    data.copy(response, 8, 4, 6)
    const internal = { address: from.address, port: data.readUInt16BE(4) }
    if (natPmpResult !== 0) return [response]
    if (lifetime === 0) {
      this.#drop(internal.port)
      return [response]
    }
    const granted = this.#granted(lifetime)
    response.writeUInt16BE(this.#hold(now, internal, data.readUInt16BE(6), granted, ''), 10)
    response.writeUInt32BE(granted, 12)
    return [response]
  }

  #natPmpAddress(now: Micros): Buffer {
    const response = Buffer.from([0, 0x80, 0, 0, 0, 0, 0, 0, ...this.external.split('.').map(Number)])
    response.writeUInt32BE(this.#epoch(now), 4)
    return response
  }

  #ssdp(now: Micros, data: Buffer): Buffer[] {
    this.log.push({ at: now, what: 'search' })
    if (this.options.upnp === undefined || this.options.upnp === false) return []
    if (!data.includes('device:InternetGatewayDevice:1')) return []
    const location = this.options.location ?? `http://${GATEWAY}:5000/rootDesc.xml`
    return [Buffer.from(`HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\nLOCATION: ${location}\r\nEXT:\r\n\r\n`)]
  }

  #soap(now: Micros, action: string, body: string): HttpResponse {
    const argument = (name: string): string => new RegExp(`<${name}>([^<]*)<`).exec(body)?.[1] ?? ''
    const port = Number(argument('NewExternalPort'))
    const entry = this.held.get(port)
    switch (action) {
      case 'GetStatusInfo':
        return soap(action, { NewConnectionStatus: 'Connected', NewUptime: '5' })
      case 'GetExternalIPAddress':
        return soap(action, { NewExternalIPAddress: this.external })
      case 'GetSpecificPortMappingEntry': {
        if (entry === undefined) return fault(714, 'NoSuchEntryInArray')
        const { address, port: internalPort } = entry.internal
        return soap(action, { NewInternalPort: String(internalPort), NewInternalClient: address })
      }
      case 'DeletePortMapping':
        this.held.delete(port)
        return soap(action, {})
      case 'AddAnyPortMapping':
      case 'AddPortMapping': {
        const code = this.options.upnpError?.(action, body)
        if (code !== undefined) return fault(code, 'No')
        const internal = { address: argument('NewInternalClient'), port: Number(argument('NewInternalPort')) }
        const lifetime = Number(argument('NewLeaseDuration'))
        this.held.delete(port)
        const given = this.#hold(now, internal, port, lifetime || Infinity, '')
        return soap(action, action === 'AddAnyPortMapping' ? { NewReservedPort: String(given) } : {})
      }
      default:
        return fault(401, 'Invalid Action')
    }
  }
}

/** A client's mapper and its router, joined by a wire of one millisecond. */
export class Bench {
  readonly gateway: FakeGateway
  readonly mapper: GatewayMapper
  readonly events: { at: Micros; event: Exclude<GatewayEvent, { type: 'http' }> }[] = []
  now: Micros = 1_000 * SECOND
  /** Things under way. */
  #queue: { at: Micros; run: () => void }[] = []
  #state: number

  constructor(options: GatewayOptions, seed = 1) {
    this.gateway = new FakeGateway(options)
    this.gateway.epochAt = this.now - 500 * SECOND
    this.#state = seed
    this.mapper = new GatewayMapper({
      rng: {
        uint32: () => this.random(),
        fill: (bytes) => bytes.forEach((_, i) => (bytes[i] = this.random())),
      },
      gateway: GATEWAY,
      internal: CLIENT,
    })
  }

  random(): number {
    this.#state = (Math.imul(this.#state, 1664525) + 1013904223) >>> 0
    return this.#state
  }

  /** Something a moment from now, as the wire brings it. */
  deliver(bytes: Uint8Array, from: SocketAddress = { address: GATEWAY, port: 5351 }): void {
    this.#later(MILLISECOND, () => this.mapper.handleDatagram(this.now, { remote: from }, bytes))
  }

  /** Lets time pass, from event to event. */
  run(duration: Micros): void {
    const end = this.now + duration
    this.#drain()
    for (;;) {
      const next = Math.min(this.mapper.pollTimeout()?.at ?? Infinity, ...this.#queue.map(({ at }) => at))
      if (next > end) break
      this.now = Math.max(this.now, next)
      const due = this.#queue.filter(({ at }) => at <= this.now)
      this.#queue = this.#queue.filter(({ at }) => at > this.now)
      for (const { run } of due) run()
      this.mapper.handleTimeout(this.now)
      this.#drain()
    }
    this.now = end
  }

  /** The types of the events since the last call. */
  news(): string[] {
    return this.events.splice(0).map(({ event }) => event.type)
  }

  #later(delay: Micros, run: () => void): void {
    this.#queue.push({ at: this.now + delay, run })
  }

  #drain(): void {
    for (let sent = this.mapper.pollTransmit(); sent; sent = this.mapper.pollTransmit()) {
      const { path, data } = sent
      this.#later(MILLISECOND, () => {
        for (const answer of this.gateway.datagram(this.now, CLIENT, path.remote, Buffer.from(data))) {
          const port = path.remote.port
          this.deliver(answer, { address: GATEWAY, port })
        }
      })
    }
    for (let event = this.mapper.pollEvent(); event; event = this.mapper.pollEvent()) {
      if (event.type === 'http') {
        const { request } = event
        this.#later(MILLISECOND, () => {
          const response = this.gateway.http(this.now, request)
          this.#later(MILLISECOND, () => this.mapper.handleHttp(this.now, request.id, response))
        })
      } else {
        this.events.push({ at: this.now, event })
      }
    }
  }
}

function pcpHeader(opcode: number, result: number, lifetime: number, epoch: number): Buffer {
  const header = Buffer.alloc(24)
  header.set([2, opcode, 0, result])
  header.writeUInt32BE(lifetime, 4)
  header.writeUInt32BE(epoch, 8)
  return header
}

function soap(action: string, values: Record<string, string>): HttpResponse {
  const inner = Object.entries(values).map(([name, value]) => `<${name}>${value}</${name}>`)
  return {
    status: 200,
    body: `<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><u:${action}Response xmlns:u="${IGD}1">${inner.join('')}</u:${action}Response></s:Body></s:Envelope>`,
  }
}

function fault(code: number, text: string): HttpResponse {
  return {
    status: 500,
    body: `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail><UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>${code}</errorCode><errorDescription>${text}</errorDescription></UPnPError></detail></s:Fault></s:Body></s:Envelope>`,
  }
}

function description(version: 1 | 2): string {
  return `<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><device><deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:${version}</deviceType>
<serviceList><service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType><controlURL>/ctl/L3F</controlURL></service></serviceList>
<deviceList><device><deviceList><device><serviceList>
<service><serviceType>${IGD}${version}</serviceType><controlURL>/ctl/IPConn</controlURL></service>
</serviceList></device></deviceList></device></deviceList></device></root>`
}
