import { createSocket, type Socket } from 'node:dgram'
import { familyOf, type SocketAddress } from '../../core/address.ts'
import type { Logger } from '../../core/logger.ts'
import { ANNOUNCEMENT_PORT } from '../control/nat-pmp.ts'
import type { DefaultGateway } from './gateways.ts'

/**
 * Hears what gateways multicast when they begin anew (RFC 6886 §3.2.1, RFC 6887 §14.1.3). Without it (the port is
 * somebody's who does not share it) a restart is found out by asking, a minute later; so nothing here is an error.
 *
 * @returns what ends it.
 */
export function hearAnnouncements(
  { own, interface: device }: DefaultGateway,
  logger: Logger,
  onDatagram: (from: SocketAddress, bytes: Uint8Array) => void,
): () => void {
  const family = familyOf(own)
  const group = family === 4 ? '224.0.0.1' : `ff02::1%${device}`
  const socket = createSocket({ type: family === 4 ? 'udp4' : 'udp6', reuseAddr: true })
  let isOpen = true
  const close = (): void => {
    if (isOpen) socket.close()
    isOpen = false
  }
  socket.on('error', (error) => {
    logger.debug('announcements of the router are not heard', { error: error.message })
    close()
  })
  socket.on('message', (bytes, { address, port }) => onDatagram({ address, port }, bytes))
  // RFC 6886 §3.2.1: on the group's own address, so that listeners do not keep each other out. Windows cannot.
  const at = process.platform === 'win32' ? {} : { address: group }
  socket.bind({ ...at, port: ANNOUNCEMENT_PORT }, () => join(socket, family, group, own))
  socket.unref()
  return close
}

function join(socket: Socket, family: 4 | 6, group: string, own: string): void {
  try {
    socket.addMembership(group, family === 4 ? own : undefined)
  } catch {
    // Every host is in these groups anyhow: this only asks switches to believe it.
  }
}
