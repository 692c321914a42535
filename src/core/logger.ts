/**
 * The four methods that pino, console and winston share: the message first, then structured fields, which a logger
 * may print or drop (pino takes them through its `logMethod` hook). Nothing secret is ever passed: no private keys,
 * no tickets, no credentials.
 */
export interface Logger {
  debug(message: string, fields?: object): void
  info(message: string, fields?: object): void
  warn(message: string, fields?: object): void
  error(message: string, fields?: object): void
}

const ignore = (): void => undefined

export const silentLogger: Logger = { debug: ignore, info: ignore, warn: ignore, error: ignore }
