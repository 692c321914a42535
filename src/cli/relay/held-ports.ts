import { once } from 'node:events'
import { createServer } from 'node:net'
import { SystemError, type SocketAddress } from '../../core/index.ts'
import { withSharedNumber } from '../../socket/index.ts'
import type { TurnListen } from '../../turn/index.ts'

export interface HeldPorts<Port> {
  readonly held: readonly Port[]
  /** With the numbers that the ports have got; those of TLS are the workers' own matter. */
  readonly listen: readonly TurnListen[]
}

interface AnyPort {
  readonly address: SocketAddress
  close(): Promise<void>
}

/**
 * Binds the UDP ports of a relay of several workers. Where TCP is to have the number that UDP gets, it is one that is free for
 * TCP, too: the workers, who listen there, cannot choose another.
 *
 * @throws {SystemError} `ERR_NATWORK_SOCKET_…`; a number that TCP cannot have, of several that were tried.
 */
export async function holdPorts<Port extends AnyPort>(
  wanted: readonly TurnListen[],
  bind: (at: SocketAddress) => Promise<Port>,
): Promise<HeldPorts<Port>> {
  const isFree = (transport: TurnListen['transport']): boolean =>
    wanted.some((one) => one.transport === transport && one.port === 0)
  const isShared = isFree('udp') && isFree('tcp')
  return await withSharedNumber(async () => {
    const held: Port[] = []
    const listen: TurnListen[] = []
    try {
      for (const one of wanted) {
        if (one.transport === 'udp') {
          const port = await bind({ address: one.host, port: one.port })
          held.push(port)
          listen.push({ ...one, port: port.address.port })
        } else if (one.transport === 'tcp' && one.port === 0) {
          const port = held[0]?.address.port ?? 0
          if (port !== 0) await mustBeFree(one.host, port)
          listen.push({ ...one, port })
        } else {
          listen.push(one)
        }
      }
    } catch (error) {
      for (const port of held) await port.close()
      throw error
    }
    return { held, listen }
  }, isShared)
}

async function mustBeFree(host: string, port: number): Promise<void> {
  const server = createServer().listen({ host, port, exclusive: true })
  try {
    await once(server, 'listening')
  } catch (cause) {
    const message = `cannot listen on TCP ${host}:${port}: ${(cause as Error).message}`
    throw new SystemError('ERR_NATWORK_TURN_LISTEN', message, { cause })
  }
  server.close()
  await once(server, 'close')
}
