import type { Socket } from 'node:net'

/**
 * Ends a TCP connection by a reset, so that its program cannot take what is broken for an end.
 *
 * Not while the end of its writable side is being sent: libuv refuses the reset then (EINVAL), and Node 20 forgets the
 * handle open: no `'close'` ever comes, and the process cannot exit. Everything written has been handed to the kernel at that moment, so
 * closing withholds nothing.
 */
export function resetSocket(socket: Socket): void {
  const isEnding = socket.writableEnded && !socket.writableFinished && socket.writableLength === 0
  if (isEnding) socket.destroy()
  else socket.resetAndDestroy()
}
