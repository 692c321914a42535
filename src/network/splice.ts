import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { PeerError } from '../core/errors.ts'
import { release } from '../core/release.ts'
import { resetSocket } from './reset.ts'

/**
 * Joins what a local program speaks on (mostly a TCP socket) and a stream to another node until both have closed. Byte
 * for byte, with each reader's pace carried over to the other side's writer. What happens on one side happens on the
 * other: an end is an end, and the other direction goes on; a reset, or anything broken, is a reset (on what is no TCP
 * socket: the error itself).
 *
 * Why not `pipeline`: it destroys the second direction when the first one ends, and turns resets into ends.
 *
 * @returns how it ended: undefined when both sides ended in good order.
 */
export function splice(local: Duplex, remote: Duplex): Promise<Error | undefined> {
  return new Promise((resolve) => {
    let broken: Error | undefined
    let open = 2
    const onClose = (): void => {
      if (--open === 0) resolve(broken)
    }
    local.on('error', (error) => {
      broken ??= error
      remote.destroy(new PeerError('ERR_NATWORK_RESET', `the local connection broke: ${error.message}`))
    })
    remote.on('error', (error) => {
      broken ??= error
      breakOff(local, error)
    })
    local.on('close', () => {
      if (!complete(local)) remote.destroy()
      onClose()
    })
    remote.on('close', () => {
      if (!complete(remote)) breakOff(local, broken)
      onClose()
    })
    // Nobody but us has seen these buffers: the socket's are Node's own, made for each read, and so are TLS's.
    const written = local instanceof Socket ? release : ignore
    carry(local, remote, written)
    carry(remote, local, written)
  })
}

function breakOff(local: Duplex, error: Error | undefined): void {
  if (local instanceof Socket) resetSocket(local)
  else local.destroy(error)
}

function carry(from: Duplex, to: Duplex, written: (chunk: Buffer) => void): void {
  const uncork = (): void => to.uncork()
  from.on('data', (chunk: Buffer) => {
    if (chunk.length < BULK) {
      if (!to.write(chunk) && to.writableLength >= HIGH_WATER) from.pause()
      return
    }
    // What comes in one go leaves in one system call; a lone message does not wait.
    if (to.writableCorked === 0) {
      to.cork()
      process.nextTick(uncork)
    }
    const room = to.write(chunk, (error) => {
      if (!error) written(chunk)
    })
    // A TCP socket says so after 16 KiB, which is one TLS record: holding back costs more than that.
    if (!room && to.writableLength >= HIGH_WATER) from.pause()
  })
  to.on('drain', () => from.resume())
  if (from.readableEnded) to.end()
  else from.on('end', () => to.end())
  from.resume()
}

function complete(stream: Duplex): boolean {
  return stream.readableEnded && stream.writableFinished
}

function ignore(): void {
  // Somebody else's buffers.
}

/** A chunk that seldom comes alone: half a TLS record. */
const BULK = 8_192
/** Bytes that may wait for a writer before the reader is stopped. */
const HIGH_WATER = 262_144
