import type { Writable } from 'node:stream'
import { asNatworkError } from './errors.ts'

/** Where a command writes: results on stdout, everything else on stderr. */
export interface Output {
  /** `--json`: one JSON value a line, nothing else. */
  readonly json: boolean
  /** One result: as JSON, or as the text that `human` makes of it with the style of stdout. */
  result(value: object, human: (style: Style) => string): void
  /** Something a person wants to know meanwhile; programs get the JSON value on stdout. */
  note(value: object, human: (style: Style) => string): void
  /** Why the command failed: one line. */
  error(error: unknown): void
}

/** Colours, or none: in a pipe, with `NO_COLOR`, on a dumb terminal. */
export interface Style {
  readonly bold: (text: string) => string
  readonly dim: (text: string) => string
  readonly red: (text: string) => string
  readonly green: (text: string) => string
  readonly yellow: (text: string) => string
  readonly cyan: (text: string) => string
}

export interface Streams {
  readonly stdout: Writable
  readonly stderr: Writable
}

export function createOutput(json: boolean, { stdout, stderr }: Streams): Output {
  const writeJson = (stream: Writable, value: object): void => {
    stream.write(`${JSON.stringify(value)}\n`)
  }
  return {
    json,
    result(value, human) {
      if (json) writeJson(stdout, value)
      else stdout.write(`${human(styleOf(stdout))}\n`)
    },
    note(value, human) {
      if (json) writeJson(stdout, value)
      else stderr.write(`${human(styleOf(stderr))}\n`)
    },
    error(error) {
      const message = error instanceof Error ? error.message : String(error)
      const code = asNatworkError(error)?.code ?? 'ERR_NATWORK_INTERNAL'
      if (json) writeJson(stderr, { error: { code, message } })
      else stderr.write(`${styleOf(stderr).red('natwork:')} ${message}\n`)
      // Not one of ours: a mistake in natwork, and the stack is what its report needs.
      if (code === 'ERR_NATWORK_INTERNAL' && !json && error instanceof Error) {
        stderr.write(`${error.stack ?? ''}\n`)
      }
    },
  }
}

/** The style for a stream: colours only where a person looks and wants them. */
export function styleOf(stream: Writable): Style {
  const terminal = stream as Partial<NodeJS.WriteStream>
  // hasColors() knows NO_COLOR, FORCE_COLOR and TERM=dumb.
  return terminal.isTTY === true && terminal.hasColors?.() === true ? colours : plain
}

/** Columns of equal width, two spaces apart. The first row is the head. */
export function table(style: Style, rows: readonly (readonly string[])[]): string {
  const widths: number[] = []
  for (const row of rows) {
    row.forEach((cell, column) => (widths[column] = Math.max(widths[column] ?? 0, cell.length)))
  }
  return rows
    .map((row, index) => {
      const line = row
        .map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0)))
        .join('  ')
      return index === 0 ? style.bold(line) : line
    })
    .join('\n')
}

/** `1.5 MiB`. */
export function formatBytes(bytes: number): string {
  const names = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < names.length - 1) {
    value /= 1024
    unit++
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${names[unit] ?? ''}`
}

/** `42s`, `3m 5s`, `2h 10m`, `5d 1h`. */
export function formatAge(seconds: number): string {
  const whole = Math.floor(seconds)
  const [days, hours, minutes] = [
    Math.floor(whole / 86_400),
    Math.floor(whole / 3_600) % 24,
    Math.floor(whole / 60) % 60,
  ]
  if (days > 0) return `${days}d ${hours}h`
  if (hours > 0) return `${hours}h ${minutes}m`
  if (minutes > 0) return `${minutes}m ${whole % 60}s`
  return `${whole}s`
}

const paint =
  (on: number, off: number) =>
  (text: string): string =>
    `\u001b[${on}m${text}\u001b[${off}m`

const colours: Style = {
  bold: paint(1, 22),
  dim: paint(2, 22),
  red: paint(31, 39),
  green: paint(32, 39),
  yellow: paint(33, 39),
  cyan: paint(36, 39),
}

const same = (text: string): string => text

const plain: Style = { bold: same, dim: same, red: same, green: same, yellow: same, cyan: same }
