// The least that a relay on node:dgram can cost: two sockets and the four bytes of ChannelData, with nobody asked who he is and
// nothing checked. Not a server, but the floor for those on node:dgram: `--servers bare-dgram,…`.
import { createSocket, type Socket } from 'node:dgram'
import { Attribute, MessageClass, Method, StunBuilder, StunView } from '../../src/stun/index.ts'
import { channelOf, mayBeChannelData, writeChannelData } from '../../src/turn/index.ts'

interface Forwarded {
  readonly relayed: Socket
  channel: number
  /** The one that the channel is bound to. */
  peer: number
}

export function forward(host: string, port: number): void {
  const clients = new Map<number, Forwarded>()
  const view = new StunView()
  const builder = new StunBuilder()
  const socket = createSocket(options)

  const open = (client: number, answer: () => void): void => {
    const relayed = createSocket(options)
    const made: Forwarded = { relayed, channel: 0, peer: 0 }
    relayed.on('message', (bytes) => {
      const data = Buffer.allocUnsafe(4 + bytes.length)
      writeChannelData(data, made.channel, bytes, false)
      socket.send(data, client, host)
    })
    relayed.bind(0, host, () => {
      relayed.setRecvBufferSize(RECEIVE_BUFFER)
      clients.set(client, made)
      answer()
    })
  }

  const answer = (client: number): void => {
    const known = clients.get(client)
    builder.startResponse(view, MessageClass.Success)
    if (view.method === Method.Allocate && known !== undefined) {
      builder.xorAddress(Attribute.XorRelayedAddress, known.relayed.address()).uint32(Attribute.Lifetime, 600)
    }
    socket.send(builder.copy(), client, host)
  }

  socket.on('message', (bytes, { port: client }) => {
    const known = clients.get(client)
    if (mayBeChannelData(bytes)) {
      if (known?.channel === channelOf(bytes)) known.relayed.send(bytes.subarray(4), known.peer, host)
      return
    }
    const request = Buffer.from(bytes)
    if (!view.open(request)) return
    if (view.method === Method.Allocate && known === undefined) {
      open(client, () => {
        view.open(request)
        answer(client)
      })
      return
    }
    if (view.method === Method.ChannelBind && known !== undefined) {
      known.channel = view.uint16(Attribute.ChannelNumber) ?? 0
      known.peer = view.xorAddress(Attribute.XorPeerAddress)?.port ?? 0
    }
    answer(client)
    if (view.method === Method.Refresh && clients.delete(client)) known?.relayed.close()
  })
  socket.bind(port, host, () => {
    socket.setRecvBufferSize(RECEIVE_BUFFER)
  })
}

/** As the drivers of natwork ask for. */
const RECEIVE_BUFFER = 4 << 20

// node's own lookup would delay even a literal by a tick.
const options = {
  type: 'udp4',
  lookup: (
    hostname: string,
    _options: unknown,
    done: (error: null, address: string, family: number) => void,
  ) => {
    done(null, hostname, 4)
  },
} as const
