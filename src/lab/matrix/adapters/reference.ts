// The matrix adapter for the reference punch (src/sim/reference): the very machines of the simulator on real sockets.
import { networkInterfaces } from 'node:os'
import { familyOf, formatAddress, type SocketAddress } from '../../../core/address.ts'
import type { Deadline, Machine, Micros, Path, Transmit } from '../../../core/machine.ts'
import { systemRng } from '../../../core/ports.ts'
import { PunchHelper } from '../../../sim/reference/helper.ts'
import { PunchPeer, type PunchEvent } from '../../../sim/reference/peer.ts'
import { synthesize } from '../../../sim/prefix64.ts'
import { UdpEndpoint, type Attachment } from '../../../socket/index.ts'
import { fail, play, readTask, say, startClock } from './program.ts'

const HELPER_PORT = 3478
/** Both sides know it: every run has a helper of its own. */
const SESSION = new Uint8Array(8)
/** What the helper has still to send, by family; emptied in the same turn. */
const waiting: Record<4 | 6, Transmit[]> = { 4: [], 6: [] }
const GREETING = 0
const CHUNK = 1
const ACKNOWLEDGEMENT = 2
const CHUNK_BYTES = 1_024
/** Chunks on their way at once, well below what the lab's queues hold. */
const WINDOW = 64
const RESEND_MS = 100
/** B has registered before A starts: an introduction takes a round trip, and a retry or two. */
const INTRODUCTION_MS = 2_000

const task = readTask()

play(task, { helper, a, b })

async function helper(): Promise<void> {
  const machine = new PunchHelper(systemRng)
  const attachments: Attachment[] = []
  // A socket per family and address: one for all would answer from any of the host's addresses.
  for (const family of [4, 6] as const) {
    const [host = ''] = task.helper(family)
    const endpoint = await UdpEndpoint.bind({ host, port: HELPER_PORT })
    const half = new HelperHalf(machine, family, () => {
      for (const attachment of attachments) attachment.wake()
    })
    attachments.push(endpoint.attach(half, () => undefined))
  }
  say({ event: 'ready' })
}

async function b(): Promise<void> {
  const peer = await startPeer(1, (event) => {
    if (event.type === 'connected') peer.send(Uint8Array.of(GREETING))
    if (event.type === 'data' && event.data[0] === CHUNK) {
      peer.send(Uint8Array.of(ACKNOWLEDGEMENT, event.data[1] ?? 0, event.data[2] ?? 0))
    }
  })
  say({ event: 'ready' })
}

async function a(): Promise<void> {
  const clock = startClock()
  const unacknowledged = new Set(Array.from({ length: Math.ceil(task.payload / CHUNK_BYTES) }, (_, i) => i))
  let firstByte: number | undefined
  let remote = ''
  let resend: NodeJS.Timeout | undefined
  const unknown = setTimeout(() => fail('the helper did not name the other side'), INTRODUCTION_MS)
  const sendChunks = (): void => {
    for (const index of [...unacknowledged].slice(0, WINDOW)) peer.send(chunk(index))
  }
  const peer = await startPeer(0, (event) => {
    switch (event.type) {
      case 'introduced':
        clearTimeout(unknown)
        break
      case 'failed':
        fail(event.reason)
        break
      case 'connected':
        remote = formatAddress(event.path.remote)
        sendChunks()
        resend = setInterval(sendChunks, RESEND_MS)
        break
      case 'data':
        firstByte ??= clock()
        if (event.data[0] !== ACKNOWLEDGEMENT) break
        unacknowledged.delete((event.data[1] ?? 0) * 256 + (event.data[2] ?? 0))
        if (unacknowledged.size > 0) break
        clearInterval(resend)
        say({ event: 'done', ms: firstByte, path: 'direct', local: peer.local, remote })
    }
  })
}

async function startPeer(side: 0 | 1, onEvent: (event: PunchEvent) => void) {
  const own = ownFamilies()
  const endpoint = await UdpEndpoint.bind({ host: own.has(6) ? '::' : '0.0.0.0', port: task.port })
  const nat64 = !own.has(4)
  const at = (address: string): SocketAddress => ({ address, port: HELPER_PORT })
  const [helper4 = ''] = task.helper(4)
  const [helper6 = ''] = task.helper(6)
  const helpers = [at(nat64 ? synthesize(helper4) : helper4), ...(own.has(6) ? [at(helper6)] : [])]
  const machine = new PunchPeer({ session: SESSION, side, helpers, dials: true, nat64 })
  const attachment = endpoint.attach(machine, onEvent)
  return {
    local: formatAddress(endpoint.address),
    send: (data: Uint8Array): void => {
      machine.send(data)
      attachment.wake()
    },
  }
}

/** What this host's addresses are of, link-local ones aside. */
function ownFamilies(): Set<4 | 6> {
  const addresses = Object.values(networkInterfaces()).flatMap((list) => list ?? [])
  const global = addresses.filter(({ internal, address }) => !internal && !address.startsWith('fe80:'))
  return new Set(global.map(({ address }) => familyOf(address)))
}

function chunk(index: number): Uint8Array {
  const bytes = new Uint8Array(CHUNK_BYTES)
  bytes.set([CHUNK, index >> 8, index & 255])
  return bytes
}

/** The helper on the socket of one family: it sends what goes to that family, and wakes the other for the rest. */
class HelperHalf implements Machine {
  readonly #machine: PunchHelper
  readonly #family: 4 | 6
  readonly #wakeBoth: () => void

  constructor(machine: PunchHelper, family: 4 | 6, wakeBoth: () => void) {
    this.#machine = machine
    this.#family = family
    this.#wakeBoth = wakeBoth
  }

  handleDatagram(now: Micros, path: Path, bytes: Uint8Array): boolean {
    const mine = this.#machine.handleDatagram(now, path, bytes)
    for (let out = this.#machine.pollTransmit(); out; out = this.#machine.pollTransmit()) {
      waiting[familyOf(out.path.remote.address)].push(out)
    }
    this.#wakeBoth()
    return mine
  }

  handleTimeout(now: Micros): void {
    this.#machine.handleTimeout(now)
  }

  pollTransmit(): Transmit | undefined {
    return waiting[this.#family].shift()
  }

  pollEvent(): undefined {
    return undefined
  }

  pollTimeout(): Deadline | undefined {
    return this.#machine.pollTimeout()
  }
}
