import { constants } from 'node:os'
import type { Command } from 'commander'
import { UsageError, type Logger } from '../core/index.ts'
import { setDefaultDriver } from '../socket/index.ts'
import { loadConfig, type Config, type Flags } from './config.ts'
import { findFolders, type Folders } from './folders.ts'
import { createLogger } from './log.ts'
import type { Output } from './output.ts'

/** What every command gets of the world around it. */
export interface Shell {
  readonly env: NodeJS.ProcessEnv
  readonly stdin: NodeJS.ReadStream
  readonly stdout: NodeJS.WriteStream
  readonly stderr: NodeJS.WriteStream
  readonly output: Output
  /** Aborts, with an {@link Interrupted}, on Ctrl-C and SIGTERM. */
  readonly signal: AbortSignal
  /** SIGHUP calls this from now on, where it would end the command. */
  onHangup(listener: () => void): void
}

/** The user asked the command to end. */
export class Interrupted extends Error {
  /** 128 + the signal's number, as shells have it. */
  readonly exitCode: number

  constructor(signal: NodeJS.Signals) {
    super(`ended by ${signal}`)
    this.name = 'Interrupted'
    this.exitCode = 128 + constants.signals[signal]
  }
}

/** A shell with the settings that hold for this command. */
export interface Settings {
  readonly folders: Folders
  readonly config: Config
  readonly logger: Logger
}

/**
 * Reads the settings: the flags of `command` over the environment over the file. The UDP driver is set by them.
 *
 * @throws {UsageError} `ERR_NATWORK_CONFIG`
 */
export function readSettings(shell: Shell, command: Command): Settings {
  const folders = findFolders(shell.env)
  const { host, port, logLevel, config: file } = command.optsWithGlobals<Record<string, string>>()
  const { portMap } = command.optsWithGlobals<{ portMap?: boolean }>()
  const { helper: helpers, helpOthers: help, exhaustive, tlsPort } = command.optsWithGlobals<HelperFlags>()
  const { publicAddress: publicAddresses } = command.optsWithGlobals<{ publicAddress?: string[] }>()
  const { mdns } = command.optsWithGlobals<{ mdns?: true }>()
  const flags: Flags = {
    ...(host !== undefined && { host }),
    ...(port !== undefined && { port: /^\d+$/.test(port) ? Number(port) : Number.NaN }),
    ...(logLevel !== undefined && { logLevel: logLevel as Config['logLevel'] }),
    ...(portMap === false && { portMapping: false }),
    ...(publicAddresses !== undefined && { publicAddresses }),
    ...(mdns !== undefined && { mdns }),
    ...(file !== undefined && { config: file }),
    ...(helpers !== undefined && { helpers }),
    ...(help !== undefined && { help }),
    ...(exhaustive !== undefined && { exhaustive: parseExhaustive(exhaustive) }),
    ...(tlsPort !== undefined && {
      tlsPort: (/^\d+$/.test(tlsPort) ? Number(tlsPort) : tlsPort) as Config['tlsPort'],
    }),
  }
  const config = loadConfig(folders, shell.env, flags)
  setDefaultDriver(config.udpDriver)
  return { folders, config, logger: createLogger(config.logLevel, shell.stderr, shell.output.json) }
}

interface HelperFlags {
  readonly helper?: string[]
  readonly helpOthers?: boolean
  readonly exhaustive?: string | true
  readonly tlsPort?: string
}

/** Of `up`, and of the commands that connect. */
export const exhaustiveOption = [
  '--exhaustive [packets@rate]',
  'where both routers give random ports, search all of them (200000@4000 by default); the other node must want it too',
] as const

/** Of the commands that connect. */
export const mdnsOption = [
  '--mdns',
  'where no node runs here, look for the other one on this network too, by multicast DNS; a node decides for itself',
] as const

function parseExhaustive(said: string | true): Config['exhaustive'] {
  if (said === true) return true
  const [, packets, perSecond] = /^(\d{1,7})@(\d{1,5})$/.exec(said) ?? []
  if (packets !== undefined) return { packets: Number(packets), perSecond: Number(perSecond) }
  throw new UsageError(
    'ERR_NATWORK_ARGUMENT',
    `--exhaustive: "${said.slice(0, 80)}" is not PACKETS@RATE: write for example 200000@4000`,
  )
}

/** For commands that run until they are told to stop: being told is their success. */
export async function untilStopped(work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error
  }
}

/** Resolves when the user wants the command to end. */
export function stopped(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
