import { formatBytes, styleOf } from './output.ts'

const INTERVAL_MS = 250

/** What a transfer has moved so far, in bytes. */
export interface Moved {
  readonly sent: number
  readonly received: number
}

/**
 * One line on a terminal, rewritten in place while bytes move; nothing at all on anything else.
 *
 * @returns a function that ends it and leaves the line empty.
 */
export function showProgress(stream: NodeJS.WriteStream, read: () => Moved): () => void {
  if (!stream.isTTY) return () => undefined
  const style = styleOf(stream)
  let before = total(read())
  const timer = setInterval(() => {
    const moved = read()
    const rate = ((total(moved) - before) * 1_000) / INTERVAL_MS
    before = total(moved)
    const text = `↑ ${formatBytes(moved.sent)}  ↓ ${formatBytes(moved.received)}  ${formatBytes(Math.round(rate))}/s`
    stream.write(`\r\u001b[K${style.dim(text)}`)
  }, INTERVAL_MS)
  timer.unref()
  return () => {
    clearInterval(timer)
    stream.write('\r\u001b[K')
  }
}

const total = ({ sent, received }: Moved): number => sent + received
