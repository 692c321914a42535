import { setupFailed, type Keeper, type PipedProcess } from './keeper.ts'
import { CORE_ROUTER, type Plan } from './plan.ts'
import { coreInterface } from './script.ts'
import type { PathParameters } from './topology.ts'

/** Packets that one attachment's traffic for another made it through the emulator. */
export interface PairCount {
  readonly from: string
  readonly to: string
  readonly packets: number
  readonly bytes: number
}

/** Packets that died on an attachment's way `up` (towards the core) or `down`, and of what. */
export interface DropCount {
  readonly port: string
  readonly way: 'up' | 'down'
  readonly reason: 'loss' | 'queue' | 'ttl' | 'route' | 'overload'
  readonly packets: number
}

export interface Counters {
  readonly pairs: readonly PairCount[]
  readonly drops: readonly DropCount[]
}

/** The running path emulator (native/lab/path.c), steered by lines on its standard input. */
export class Emulator {
  readonly #process: PipedProcess
  #buffer = ''
  readonly #waiting: {
    lines: string[]
    resolve: (lines: string[]) => void
    reject: (error: Error) => void
  }[] = []

  constructor(keeper: Keeper) {
    this.#process = keeper.spawn('core', keeper.helper, ['path'], { stdio: 'pipe' }) as PipedProcess
    this.#process.stdout.setEncoding('utf8').on('data', (text: string) => this.#read(text))
    this.#process.stdin.on('error', () => undefined) // its end is reported below
    this.#process.on('close', () => this.#fail(setupFailed('the path emulator ended')))
    this.#process.on('error', (cause) => this.#fail(setupFailed('the path emulator did not start', cause)))
  }

  async attach(plan: Plan): Promise<void> {
    const commands = plan.attachments.flatMap((at, i) => [
      `port ${at.port} ${at.segment} ${coreInterface(i)} ${at.node} ${at.interface}`,
      ...[...at.addresses, ...at.routes].map((prefix) => `route ${at.segment} ${prefix} ${at.port}`),
      ...(['up', 'down'] as const).map((way) => setCommand(at.port, way, at.path)),
    ])
    if (plan.timeExceeded) commands.push(`icmp ${CORE_ROUTER[4]} ${CORE_ROUTER[6]}`)
    await Promise.all(commands.map((command) => this.#command(command)))
  }

  async set(port: string, way: 'up' | 'down', parameters: PathParameters): Promise<void> {
    await this.#command(setCommand(port, way, parameters))
  }

  async route(segment: string, prefix: string, port: string | undefined): Promise<void> {
    await this.#command(
      port === undefined ? `unroute ${segment} ${prefix}` : `route ${segment} ${prefix} ${port}`,
    )
  }

  async counters(): Promise<Counters> {
    const pairs: PairCount[] = []
    const drops: DropCount[] = []
    for (const line of await this.#command('counters')) {
      const [what, a = '', b = '', c = '', d = ''] = line.split(' ')
      if (what === 'pair') pairs.push({ from: a, to: b, packets: Number(c), bytes: Number(d) })
      else {
        drops.push({
          port: a,
          way: b as DropCount['way'],
          reason: c as DropCount['reason'],
          packets: Number(d),
        })
      }
    }
    return { pairs, drops }
  }

  #command(line: string): Promise<string[]> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ lines: [], resolve, reject })
      this.#process.stdin.write(`${line}\n`)
    })
  }

  #read(text: string): void {
    const lines = (this.#buffer + text).split('\n')
    this.#buffer = lines.pop() ?? ''
    for (const line of lines) {
      const first = this.#waiting[0]
      if (line !== 'ok' && !line.startsWith('error ')) {
        first?.lines.push(line)
        continue
      }
      this.#waiting.shift()
      if (line === 'ok') first?.resolve(first.lines)
      else first?.reject(setupFailed(`path emulator: ${line.slice('error '.length)}`))
    }
  }

  #fail(error: Error): void {
    for (const { reject } of this.#waiting.splice(0)) reject(error)
  }
}

function setCommand(port: string, way: 'up' | 'down', path: PathParameters): string {
  const numbers = {
    delay: path.delay === undefined ? undefined : Math.round(path.delay * 1_000),
    jitter: path.jitter === undefined ? undefined : Math.round(path.jitter * 1_000),
    rate: path.rate,
    queue: path.queue,
    loss: path.loss === undefined ? undefined : Math.round(path.loss * 1_000_000),
    hops: path.hops,
  }
  const words = Object.entries(numbers).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${value}`],
  )
  return `set ${port} ${way} ${words.join(' ')}`
}
