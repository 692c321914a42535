import { pino, type LogFn, type Logger as PinoLogger } from 'pino'
import type { Logger } from '../core/index.ts'
import { styleOf } from './output.ts'

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent'

/** Logs to stderr: JSON lines, as programs want them; on a terminal lines for people. */
export function createLogger(level: LogLevel, stderr: NodeJS.WriteStream, json: boolean): Logger {
  const destination = stderr.isTTY && !json ? humanLines(stderr) : stderr
  return pino(
    { level, base: null, timestamp: pino.stdTimeFunctions.isoTime, hooks: { logMethod } },
    destination,
  )
}

/** Our loggers take the message first, pino takes the fields first. */
function logMethod(this: PinoLogger, args: Parameters<LogFn>, method: LogFn): void {
  const [message, fields] = args as unknown as [string, object?]
  if (fields === undefined) method.call(this, message)
  else method.call(this, fields, message)
}

function humanLines(stderr: NodeJS.WriteStream): { write(line: string): void } {
  const style = styleOf(stderr)
  const names: Record<number, string> = {
    20: style.dim('debug'),
    30: style.green('info '),
    40: style.yellow('warn '),
    50: style.red('error'),
  }
  return {
    write(line) {
      const { time, level, msg, ...fields } = JSON.parse(line) as { time: string; level: number; msg: string }
      const rest = Object.entries(fields).map(
        ([name, value]) => ` ${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
      )
      stderr.write(
        `${style.dim(time.slice(11, 19))} ${names[level] ?? level} ${msg}${style.dim(rest.join(''))}\n`,
      )
    },
  }
}
