// The matrix adapter for an ICE stack: node-datachannel (libdatachannel, libjuice), with Debian's coturn as its STUN and
// TURN server. Offers, answers and candidates go through a TCP switchboard on the helper host, at port 443: HTTPS is
// how they travel in life.
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
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
} from './program.ts'

const SIGNALLING_PORT = 443
const TURN_PORT = 3478
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

async function b(): Promise<void> {
  const signalling = await dial('b')
  let peer: PeerConnection | undefined
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

async function a(): Promise<void> {
  const signalling = await dial('a')
  const clock = startClock()
  const peer = createPeer(signalling)
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

interface Signalling {
  send(message: Message): void
  onMessage: (message: Message) => void
}

function dial(role: string): Promise<Signalling> {
  return new Promise((resolve, reject) => {
    const socket = connect(SIGNALLING_PORT, helperAddress)
    socket.setNoDelay(true).on('error', reject)
    const write = (value: unknown): boolean => socket.write(`${JSON.stringify(value)}\n`)
    const signalling: Signalling = { send: write, onMessage: () => undefined }
    createInterface({ input: socket })
      .on('error', reject)
      .once('line', () => resolve(signalling))
      .on('line', (line) => {
        const message = JSON.parse(line) as Message | { connected: true }
        if (!('connected' in message)) signalling.onMessage(message)
      })
    write({ role })
  })
}

/** Hands A's lines to B and B's to A, after one that says who it is. */
function startSwitchboard(): Promise<void> {
  const sockets = new Map<string, Socket>()
  const server = createServer((socket) => {
    let role: string | undefined
    socket.setNoDelay(true).on('error', () => socket.destroy())
    createInterface({ input: socket })
      .on('error', () => undefined)
      .on('line', (line) => {
        if (role !== undefined) {
          sockets.get(role === 'a' ? 'b' : 'a')?.write(`${line}\n`)
          return
        }
        role = (JSON.parse(line) as { role: string }).role
        sockets.set(role, socket)
        socket.write('{"connected":true}\n')
      })
  })
  return new Promise((resolve, reject) => {
    server.on('error', reject).listen(SIGNALLING_PORT, helperAddress, resolve)
  })
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
