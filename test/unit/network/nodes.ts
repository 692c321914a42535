import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import type { TestContext } from 'node:test'
import { createContext, memoryDirectory, type Directory } from '../../../src/directory/index.ts'
import {
  Network,
  type NetworkContext,
  type NetworkOptions,
  type NodeConnection,
} from '../../../src/network/index.ts'

export interface Node {
  network: Network
  directory: Directory
  context: NetworkContext
}

/** A node that is not started yet; stopped after the test. */
export function makeNode(
  t: TestContext,
  options: NetworkOptions = {},
  context: Partial<NetworkContext> = {},
): Node {
  const directory = memoryDirectory()
  const whole = { ...createContext({ directory }), ...context }
  const network = new Network(whole, { host: '127.0.0.1', port: 0, ...options })
  t.after(() => network.stop())
  return { network, directory, context: whole }
}

/** Two started nodes; `b` knows `a`'s record. */
export async function makePair(
  t: TestContext,
  optionsA: NetworkOptions = {},
  optionsB: NetworkOptions = {},
): Promise<[Node, Node]> {
  const a = makeNode(t, optionsA)
  const b = makeNode(t, optionsB)
  await Promise.all([a.network.start(), b.network.start()])
  await b.directory.put(a.network.self)
  return [a, b]
}

/** What a node says of its connection with another one. */
export function connectionOf(node: Node, peer: Node): NodeConnection {
  const found = node.network.connections.find((one) => one.peer === peer.network.id)
  assert.ok(found)
  return found
}

/** A local TCP server, closed after the test. `onSocket` gets half-open sockets whose errors are handled. */
export async function listen(
  t: TestContext,
  onSocket: (socket: Socket) => void,
): Promise<{ port: number; server: Server }> {
  const sockets = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined).on('close', () => sockets.delete(socket))
    onSocket(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return { port: portOf(server), server }
}

export function portOf(server: Server): number {
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('not listening')
  return address.port
}

/** A TCP port where nothing listens. */
export async function closedPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const port = portOf(server)
  server.close()
  await once(server, 'close')
  return port
}

export async function dial(port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  await once(socket, 'connect')
  return socket
}
