import type { Socket } from 'node:net'
import { MAX_LINE } from './protocol.ts'

/**
 * The next line of `socket` as JSON; what came after it is put back. Undefined when the socket ended first.
 *
 * @throws {SyntaxError} when it is no JSON, or longer than a line of ours ever is.
 */
export async function readJsonLine(socket: Socket): Promise<unknown> {
  const line = await readLine(socket)
  return line === undefined ? undefined : (JSON.parse(line) as unknown)
}

export function writeJsonLine(socket: Socket, value: object): void {
  socket.write(`${JSON.stringify(value)}\n`)
}

function readLine(socket: Socket): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = []
    let length = 0
    const finish = (): void => {
      socket.off('readable', onReadable).off('end', onEnd).off('close', onEnd).off('error', onError)
    }
    const onReadable = (): void => {
      let chunk: Buffer | null
      while ((chunk = socket.read() as Buffer | null) !== null) {
        const end = chunk.indexOf(10)
        length += end < 0 ? chunk.length : end
        if (length > MAX_LINE) {
          finish()
          reject(new SyntaxError('the line is too long'))
          return
        }
        if (end < 0) {
          parts.push(chunk)
          continue
        }
        parts.push(chunk.subarray(0, end))
        finish()
        if (end + 1 < chunk.length) socket.unshift(chunk.subarray(end + 1))
        resolve(Buffer.concat(parts).toString('utf8'))
        return
      }
    }
    const onEnd = (): void => {
      finish()
      resolve(undefined)
    }
    const onError = (error: Error): void => {
      finish()
      reject(error)
    }
    socket.on('readable', onReadable).on('end', onEnd).on('close', onEnd).on('error', onError)
  })
}
