import type { SocketAddress } from '../core/address.ts'
import { setupFailed, type PipedProcess } from './keeper.ts'
import type { Lab } from './lab.ts'

export interface Datagram {
  readonly from: SocketAddress
  readonly bytes: Buffer
}

/** A datagram as it came in: from whom, with which TTL or hop limit. */
export interface Received extends Datagram {
  readonly ttl: number
}

/** A UDP socket to look at NATs with: in a lab ({@link ObservedSocket}) or in the simulator. */
export interface ProbeSocket {
  readonly address: string
  readonly port: number
  send(to: SocketAddress, bytes: Buffer | string): void
  /**
   * The first datagram, past or future, that begins with `start`; undefined when none has come after `within`
   * milliseconds. Others stay unread.
   */
  receive(start: string, within: number): Promise<Datagram | undefined>
  close(): void
}

/** How a TCP attempt ended: `connected`, or the system's words for why not. */
export type Connected = 'connected' | { readonly failed: string }

/**
 * Sockets in any host of a lab, all in this process's hands (native/lab/agent.c): a NAT is looked at from inside and
 * outside at once, without a program per host.
 */
export class Observer {
  readonly #process: PipedProcess
  readonly #sockets = new Map<number, (what: string, words: string[]) => void>()
  #next = 0
  #buffer = ''

  constructor(lab: Lab) {
    this.#process = lab.helper('agent')
    this.#process.stdout.setEncoding('utf8').on('data', (text: string) => this.#read(text))
    this.#process.stdin.on('error', () => undefined) // the lab was closed: nobody waits any more
  }

  /** Binds a UDP socket; port 0 is any. */
  async udp(host: string, address: string, port = 0): Promise<ObservedSocket> {
    const id = this.#next++
    const socket = new ObservedSocket((line) => this.#write(line), id, address)
    await new Promise<void>((resolve, reject) => {
      this.#sockets.set(id, (what, words) => {
        if (what === 'opened') {
          socket.port = Number(words[0])
          resolve()
        } else if (what === 'failed') reject(setupFailed(`${host} [${address}]:${port}: ${words.join(' ')}`))
        else socket.hear(what, words)
      })
      this.#write(`open ${id} ${host} ${address} ${port}`)
    })
    return socket
  }

  /** A TCP listener that says back what it hears, until the lab closes. */
  async tcpEcho(host: string, address: string, port: number): Promise<void> {
    const id = this.#next++
    await new Promise<void>((resolve, reject) => {
      this.#sockets.set(id, (what, words) => {
        if (what === 'opened') resolve()
        else reject(setupFailed(`${host} [${address}]:${port}: ${words.join(' ')}`))
      })
      this.#write(`listen ${id} ${host} ${address} ${port}`)
    })
  }

  /** Connects from a host to an echo, says `bytes`; true when they came back before `within` milliseconds. */
  async tcpEchoes(host: string, to: SocketAddress, bytes: Buffer, within: number): Promise<boolean> {
    const id = this.#next++
    const answer = await new Promise<boolean>((resolve) => {
      const timer = setTimeout(() => resolve(false), within)
      this.#sockets.set(id, (what) => {
        if (what === 'connected') this.#write(`write ${id} ${bytes.toString('hex')}`)
        else {
          clearTimeout(timer)
          resolve(what === 'heard')
        }
      })
      this.#write(`connect ${id} ${host} ${to.address} ${to.port}`)
    })
    this.#write(`close ${id}`)
    this.#sockets.delete(id)
    return answer
  }

  #write(line: string): void {
    this.#process.stdin.write(`${line}\n`)
  }

  #read(text: string): void {
    const lines = (this.#buffer + text).split('\n')
    this.#buffer = lines.pop() ?? ''
    for (const line of lines) {
      const [what = '', id = '', ...words] = line.split(' ')
      this.#sockets.get(Number(id))?.(what, words)
    }
  }
}

/** A UDP socket in a host of the lab. */
export class ObservedSocket implements ProbeSocket {
  port = 0
  readonly address: string
  /** Gets what comes in from now on, instead of {@link receive}. */
  onReceived: ((received: Received) => void) | undefined
  readonly #write: (line: string) => void
  readonly #id: number
  readonly #unread: Received[] = []
  readonly #waiting = new Set<() => void>()

  /** @internal */
  constructor(write: (line: string) => void, id: number, address: string) {
    this.#write = write
    this.#id = id
    this.address = address
  }

  /** `ttl` 0 is the system's own. */
  send(to: SocketAddress, bytes: Buffer | string, ttl = 0): void {
    this.#write(`send ${this.#id} ${to.address} ${to.port} ${ttl} ${Buffer.from(bytes).toString('hex')}`)
  }

  async receive(start: string, within: number): Promise<Received | undefined> {
    const until = performance.now() + within
    for (;;) {
      const index = this.#unread.findIndex(({ bytes }) => bytes.toString('latin1').startsWith(start))
      if (index >= 0) return this.#unread.splice(index, 1)[0]
      const left = until - performance.now()
      if (left <= 0) return undefined
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          clearTimeout(timer)
          this.#waiting.delete(wake)
          resolve()
        }
        const timer = setTimeout(wake, left)
        this.#waiting.add(wake)
      })
    }
  }

  close(): void {
    this.#write(`close ${this.#id}`)
  }

  /** @internal */
  hear(what: string, [address = '', port = '', ttl = '', hex = '']: string[]): void {
    // ICMP errors (`refused`) are not an answer: a NAT that lets nothing in may still complain.
    if (what !== 'received') return
    const received = {
      from: { address, port: Number(port) },
      ttl: Number(ttl),
      bytes: Buffer.from(hex, 'hex'),
    }
    if (this.onReceived) {
      this.onReceived(received)
      return
    }
    this.#unread.push(received)
    for (const wake of this.#waiting) wake()
  }
}
