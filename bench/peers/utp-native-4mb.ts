import { libutp } from './utp-native.ts'

/** libutp with the 4 MiB buffers that a careful user gives it. */
export const peer = libutp('utp-native (4 MiB buffers)', (socket) => {
  socket.setRecvBufferSize(4 << 20)
  socket.setSendBufferSize(4 << 20)
})
