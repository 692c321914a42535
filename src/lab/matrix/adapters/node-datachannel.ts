// The matrix adapter for an ICE stack: node-datachannel (libdatachannel, libjuice), with Debian's coturn as its STUN and
// TURN server. Offers, answers and candidates go through a switchboard on the helper host, by TCP to port 443 (as
// HTTPS they would), or by UDP where TCP does not get there.
import { spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type * as NodeDataChannel from 'node-datachannel'
import type { DataChannel, DescriptionType, PeerConnection } from 'node-datachannel'
import {
  fail,
  play,
  readTask,
  receivePayload,
  requireFor,
  say,
  sendPayload,
  startClock,
  type Channel,
  type Stop,
} from './program.ts'

const SIGNALLING_PORT = 443
const TURN_PORT = 3478
const TCP_PATIENCE_MS = 1_500
const RESEND_MS = 300
const USER = 'natwork'
const PASSWORD = 'laboratory'

const task = readTask()
const [helperAddress = ''] = task.helper(4)

play(task, { helper, a, b })

async function helper(): Promise<void> {
  await startCoturn()
  await startSwitchboard()
  say({ event: 'ready' })
}

async function b(onStop: (stop: Stop) => void): Promise<void> {
  const signalling = await dial('b')
  let peer: PeerConnection | undefined
  onStop(() => {
    peer?.close()
    signalling.close()
  })
  signalling.onMessage = (message) => {
    peer ??= answerTo(signalling)
    take(peer, message)
  }
  say({ event: 'ready' })
}

function answerTo(signalling: Signalling): PeerConnection {
  const peer = createPeer(signalling)
  peer.onDataChannel((dataChannel) => {
    const channel = channelOf(dataChannel)
    dataChannel.onOpen(() => {
      receivePayload(channel, task.payload)
    })
  })
  return peer
}

async function a(onStop: (stop: Stop) => void): Promise<void> {
  const signalling = await dial('a')
  const clock = startClock()
  const peer = createPeer(signalling)
  onStop(() => {
    peer.close()
    signalling.close()
  })
  signalling.onMessage = (message) => {
    take(peer, message)
  }
  peer.onStateChange((state) => {
    if (state === 'failed') fail('ICE failed')
  })
  const ms = await sendPayload(channelOf(peer.createDataChannel('payload')), task.payload, clock)
  const { local, remote } = peer.getSelectedCandidatePair() ?? {}
  const relayed = local?.type === 'relay' || remote?.type === 'relay'
  say({
    event: 'done',
    ms,
    path: relayed ? 'relayed' : 'direct',
    local: `${local?.address}:${local?.port}`,
    remote: `${remote?.address}:${remote?.port}`,
    details: { localType: local?.type ?? '', remoteType: remote?.type ?? '' },
  })
}

function createPeer(signalling: Signalling): PeerConnection {
  const library = requireFor('node-datachannel')('node-datachannel') as typeof NodeDataChannel
  library.initLogger('Info', (level, message) => {
    console.error(level, message)
  })
  const turn = { hostname: helperAddress, port: TURN_PORT, username: USER, password: PASSWORD }
  const peer = new library.PeerConnection(task.role, {
    iceServers: [`stun:${helperAddress}:${TURN_PORT}`, { ...turn, relayType: 'TurnUdp' }],
    // One port, the one that static rules of routers lead to.
    portRangeBegin: task.port,
    portRangeEnd: task.port,
  })
  peer.onLocalDescription((sdp, type) => {
    signalling.send({ sdp, type })
  })
  peer.onLocalCandidate((candidate, mid) => {
    signalling.send({ candidate, mid })
  })
  return peer
}

type Message = { sdp: string; type: DescriptionType } | { candidate: string; mid: string }

function take(peer: PeerConnection, message: Message): void {
  if ('sdp' in message) peer.setRemoteDescription(message.sdp, message.type)
  else peer.addRemoteCandidate(message.candidate, message.mid)
}

function channelOf(dataChannel: DataChannel): Channel {
  const channel: Channel = {
    send: (bytes) => {
      dataChannel.sendMessageBinary(bytes)
    },
    onData: () => undefined,
  }
  dataChannel.onMessage((message) => {
    channel.onData(typeof message === 'string' ? Buffer.from(message) : new Uint8Array(message))
  })
  return channel
}

// ---- signalling

type Side = 'a' | 'b'

interface Signalling {
  send(message: Message): void
  close(): void
  onMessage: (message: Message) => void
}

/** By TCP, or by UDP where the router translates nothing but UDP (the DMZ rules). */
async function dial(role: Side): Promise<Signalling> {
  return (await dialTcp(role)) ?? dialUdp(role)
}

function dialTcp(role: Side): Promise<Signalling | undefined> {
  return new Promise((resolve) => {
    const socket = connect(SIGNALLING_PORT, helperAddress)
    const giveUp = (): void => {
      socket.destroy()
      resolve(undefined)
    }
    const timer = setTimeout(giveUp, TCP_PATIENCE_MS)
    const write = (value: unknown): boolean => socket.write(`${JSON.stringify(value)}\n`)
    const signalling: Signalling = {
      send: write,
      close: () => socket.destroy(),
      onMessage: () => undefined,
    }
    socket.setNoDelay(true).on('error', giveUp)
    createInterface({ input: socket })
      .on('error', giveUp)
      .once('line', () => {
        clearTimeout(timer)
        resolve(signalling)
      })
      .on('line', (line) => {
        const message = JSON.parse(line) as Message | { connected: true }
        if (!('connected' in message)) signalling.onMessage(message)
      })
    write({ role })
  })
}

/** Numbered messages, each sent again until the other side acknowledges it, handed on in order. */
function dialUdp(role: Side): Signalling {
  const socket = createSocket('udp4')
  const unacknowledged = new Map<number, Message>()
  const early = new Map<number, Message>()
  let sent = 0
  let expected = 0
  const write = (datagram: Datagram): void => {
    socket.send(JSON.stringify({ role, ...datagram }), SIGNALLING_PORT, helperAddress)
  }
  const signalling: Signalling = {
    send: (message) => {
      const number = sent++
      unacknowledged.set(number, message)
      write({ number, message })
    },
    close: () => {
      clearInterval(resend)
      socket.close()
    },
    onMessage: () => undefined,
  }
  socket.on('message', (bytes) => {
    const { number, message } = JSON.parse(bytes.toString()) as Datagram
    if (number === undefined) return
    if (!message) {
      unacknowledged.delete(number)
      return
    }
    write({ number })
    early.set(number, message)
    for (let next = early.get(expected); next; next = early.get(expected)) {
      early.delete(expected++)
      signalling.onMessage(next)
    }
  })
  const resend = setInterval(() => {
    write({}) // keeps the mapping, and tells the switchboard where we are
    for (const [number, message] of unacknowledged) write({ number, message })
  }, RESEND_MS)
  write({})
  return signalling
}

/** With a message: take it. Without: it was taken. Without a number: here I am. */
interface Datagram {
  readonly number?: number
  readonly message?: Message
}

/** Hands what A says to B and what B says to A, whichever way each of them came. */
async function startSwitchboard(): Promise<void> {
  const deliver: Partial<Record<Side, (datagram: Datagram) => void>> = {}
  const server = createServer((socket) => {
    let role: Side | undefined
    let sent = 0
    socket.setNoDelay(true).on('error', () => socket.destroy())
    createInterface({ input: socket })
      .on('error', () => undefined)
      .on('line', (line) => {
        if (role !== undefined) {
          deliver[otherSide(role)]?.({ number: sent++, message: JSON.parse(line) as Message })
          return
        }
        role = (JSON.parse(line) as { role: Side }).role
        const [self, seen] = [role, new Set<number>()]
        deliver[self] = ({ number, message }) => {
          if (!message || number === undefined) return
          deliver[otherSide(self)]?.({ number })
          if (!seen.has(number)) socket.write(`${JSON.stringify(message)}\n`)
          seen.add(number)
        }
        socket.write('{"connected":true}\n')
      })
  })
  const udp = createSocket('udp4', (bytes, { address, port }) => {
    const { role, ...datagram } = JSON.parse(bytes.toString()) as Datagram & { role: Side }
    deliver[role] = (answer) => {
      udp.send(JSON.stringify(answer), port, address)
    }
    deliver[otherSide(role)]?.(datagram)
  })
  udp.bind(SIGNALLING_PORT, helperAddress)
  server.listen(SIGNALLING_PORT, helperAddress)
  await Promise.all([once(udp, 'listening'), once(server, 'listening')])
}

function otherSide(side: Side): Side {
  return side === 'a' ? 'b' : 'a'
}

// ---- STUN and TURN

async function startCoturn(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'natwork-coturn-'))
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
  const coturn = spawn(
    'turnserver',
    [
      '-n',
      '--verbose',
      '--no-cli',
      '--no-tls',
      '--no-dtls',
      '--lt-cred-mech',
      `--user=${USER}:${PASSWORD}`,
      '--realm=lab.example',
      `--listening-ip=${helperAddress}`,
      `--listening-port=${TURN_PORT}`,
      `--relay-ip=${helperAddress}`,
      '--log-file=stdout',
      '--simple-log',
      `--userdb=${join(folder, 'users.sqlite')}`,
      `--pidfile=${join(folder, 'pid')}`,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  process.on('exit', () => coturn.kill('SIGKILL'))
  await new Promise<void>((resolve, reject) => {
    coturn.on('error', () => {
      reject(new Error('this adapter needs coturn: apt-get install coturn'))
    })
    coturn.on('exit', (code) => {
      reject(new Error(`turnserver ended with exit code ${code ?? 'unknown'}`))
    })
    createInterface({ input: coturn.stdout }).on('line', (line) => {
      console.error(line)
      if (line.includes('IPv4. UDP listener opened on') || line.includes('Total auth threads')) resolve()
    })
  })
}
