import { familyOf, type SocketAddress } from '../core/address.ts'

/** The sockets of one port number; at least one of them is there. */
export interface Families<Socket> {
  readonly four: Socket | undefined
  readonly six: Socket | undefined
}

/**
 * Binds what `at` asks for. `::` opens two sockets on one port, one per family, instead of a single dual-stack one:
 * IPv6 sockets ignore the TTL set for IPv4-mapped destinations (libuv sets IPV6_UNICAST_HOPS only), and no address is
 * ever seen in mapped form.
 *
 * @throws what `bind` throws; nothing stays open then.
 */
export function bindFamilies<Socket extends { close(): unknown }>(
  at: SocketAddress,
  bind: Bind<Socket>,
  portOf: (socket: Socket) => number,
): Families<Socket> | Promise<Families<Socket>> {
  if (at.address === '::') return bindBoth(at, bind, portOf)
  const alone = (socket: Socket): Families<Socket> =>
    familyOf(at.address) === 6 ? { four: undefined, six: socket } : { four: socket, six: undefined }
  const bound = bind(at)
  return bound instanceof Promise ? bound.then(alone) : alone(bound)
}

type Bind<Socket> = (at: SocketAddress) => Socket | Promise<Socket>

async function bindBoth<Socket extends { close(): unknown }>(
  at: SocketAddress,
  bind: Bind<Socket>,
  portOf: (socket: Socket) => number,
): Promise<Families<Socket>> {
  // A port that is free for IPv6 may be taken for IPv4: with port 0 another one is as good.
  for (let attempt = 1; ; attempt++) {
    const six = await bind(at)
    try {
      return { four: await bind({ address: '0.0.0.0', port: portOf(six) }), six }
    } catch (error) {
      await six.close()
      if (at.port !== 0 || attempt === 10) throw error
    }
  }
}
