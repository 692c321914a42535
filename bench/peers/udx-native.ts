import UDX from 'udx-native'
import type { Peer } from '../peer.ts'

/**
 * udx has no handshake: both sides must know the other's stream id. A raw message on the same socket tells it, said
 * again until it is answered (links may lose it), so set-up costs the one round trip that any use of udx costs.
 */
export const peer: Peer = {
  name: 'udx-native',

  listen(host, onStream) {
    const udx = new UDX()
    const socket = udx.createSocket()
    const known = new Set<string>()
    socket.on('message', (message, from) => {
      const id = Number(message.toString())
      const key = `${from.host}:${from.port}/${id}`
      if (!known.has(key)) {
        known.add(key)
        const stream = udx.createStream(id)
        stream.connect(socket, id, from.port, from.host)
        onStream(stream)
      }
      socket.trySend(message, from.port, from.host)
    })
    socket.bind(0, host)
    return Promise.resolve({ host, port: socket.address().port })
  },

  dialer(host) {
    const udx = new UDX()
    const socket = udx.createSocket()
    socket.bind(0, host)
    const waiting = new Map<number, () => void>()
    socket.on('message', (message) => {
      waiting.get(Number(message.toString()))?.()
    })
    let nextId = 1
    return Promise.resolve(async (to) => {
      const id = nextId++
      await new Promise<void>((resolve) => {
        const say = (): void => {
          socket.trySend(Buffer.from(String(id)), to.port, to.host)
        }
        say()
        const again = setInterval(say, 250)
        waiting.set(id, () => {
          clearInterval(again)
          waiting.delete(id)
          resolve()
        })
      })
      const stream = udx.createStream(id)
      stream.connect(socket, id, to.port, to.host)
      return stream
    })
  },
}
