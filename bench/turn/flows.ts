import { Attribute, MessageClass, Method, StunBuilder } from '../../src/stun/index.ts'
import { writeChannelData } from '../../src/turn/index.ts'
import { Client, host, Port } from './client.ts'
import { cpuSeconds, type Server } from './servers.ts'

/** One kind of load. */
export interface Flow {
  readonly name: string
  readonly form: 'ChannelData' | 'indication'
  readonly toPeers: boolean
  readonly bytes: number
  readonly clients: number
  /** Datagrams of one client that leave in one row, as a connection's bulk does. */
  readonly row: number
}

const both = (name: string, more: Omit<Flow, 'name' | 'toPeers'>): Flow[] => [
  { name: `${name} to peers`, toPeers: true, ...more },
  { name: `${name} from peers`, toPeers: false, ...more },
]

export const flows: readonly Flow[] = [
  ...both('ChannelData', { form: 'ChannelData', bytes: 1_000, clients: 4, row: 1 }),
  { name: 'Send', toPeers: true, form: 'indication', bytes: 1_000, clients: 4, row: 1 },
  { name: 'Data', toPeers: false, form: 'indication', bytes: 1_000, clients: 4, row: 1 },
  ...both('bursts', { form: 'ChannelData', bytes: 1_200, clients: 4, row: 32 }),
  ...both('interleaved', { form: 'ChannelData', bytes: 160, clients: 50, row: 1 }),
]

export interface Sample {
  readonly perSecond: number
  readonly loss: number
  readonly cpuPerMillion: number
}

/** @param pace datagrams per second; Infinity: as fast as this process can. */
export async function load(server: Server, flow: Flow, pace: number, seconds: number): Promise<Sample> {
  const pairs: Pair[] = []
  for (let n = 0; n < flow.clients; n++) pairs.push(await open(server.port, flow, n))
  const count = (): number => pairs.reduce((sum, { to }) => sum + to.received, 0)
  const before = { cpu: cpuSeconds(server), count: count(), at: performance.now() }
  const sent = await transmit(pairs, flow.row, pace, seconds)
  const elapsed = (performance.now() - before.at) / 1_000
  // What waits in sockets is still on its way.
  for (let last = -1; last !== count();) {
    last = count()
    await sleep(80)
  }
  const done = count() - before.count
  const cpu = cpuSeconds(server) - before.cpu
  for (const { close } of pairs) await close()
  return { perSecond: done / elapsed, loss: 1 - done / sent, cpuPerMillion: (cpu / done) * 1e6 }
}

interface Pair {
  readonly send: () => void
  readonly flush: () => void
  readonly to: Port
  readonly close: () => Promise<void>
}

async function open(port: number, { form, toPeers, bytes }: Flow, n: number): Promise<Pair> {
  const peer = await Port.open()
  const client = await Client.open(port)
  await client.allocate()
  await client.permit(peer.address)
  if (form === 'ChannelData') await client.bind(0x4001, peer.address)
  const payload = Buffer.alloc(bytes, 7)
  const close = async (): Promise<void> => {
    await client.close()
    await peer.driver.close()
  }
  const path = toPeers ? client.server : { remote: { address: host, port: client.relayed?.port ?? 0 } }
  const data = !toPeers
    ? payload
    : form === 'ChannelData'
      ? channelData(payload)
      : new StunBuilder()
          .start(Method.Send, MessageClass.Indication, Buffer.alloc(12, n + 1))
          .xorAddress(Attribute.XorPeerAddress, peer.address)
          .bytes(Attribute.Data, payload)
          .copy()
  const from = toPeers ? client.port : peer
  const to = toPeers ? peer : client.port
  to.received = 0
  return {
    send: () => from.driver.send({ path, data }),
    flush: () => {
      from.driver.flush()
    },
    to,
    close,
  }
}

/** A few at a time, so that what comes back is read in between. */
async function transmit(pairs: readonly Pair[], row: number, pace: number, seconds: number): Promise<number> {
  const from = performance.now()
  let sent = 0
  let turn = 0
  for (;;) {
    const elapsed = (performance.now() - from) / 1_000
    if (elapsed >= seconds) return sent
    const due = Math.min(sent + Math.max(64, row), Math.floor(elapsed * pace))
    while (sent + row <= due) {
      const pair = pairs[turn++ % pairs.length]
      for (let n = 0; n < row; n++) pair?.send()
      pair?.flush()
      sent += row
    }
    await new Promise((resolve) => setImmediate(resolve))
  }
}

function channelData(payload: Uint8Array): Uint8Array {
  const into = Buffer.alloc(4 + payload.length)
  writeChannelData(into, 0x4001, payload, false)
  return into
}

export function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}
