import { createRequire } from 'node:module'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { familyOf } from '../../../core/address.ts'
import type { ProgramEvent, ProgramOrder, Role } from '../contract.ts'

/** What the matrix tells a program (docs/matrix.md), read from its environment. */
export interface Task<HelperInfo = unknown, PeerInfo = unknown> {
  readonly role: Role
  /** The helper host's addresses of one family, the main one first. */
  readonly helper: (family: 4 | 6) => readonly string[]
  readonly port: number
  readonly payload: number
  readonly timeoutMs: number
  readonly helperInfo: HelperInfo
  /** Of the run that is being played. */
  peerInfo: PeerInfo
}

export function readTask<HelperInfo, PeerInfo>(): Task<HelperInfo, PeerInfo> {
  const { env } = process
  const addresses = (env['NATWORK_HELPER'] ?? '').split(',')
  return {
    role: env['NATWORK_ROLE'] as Role,
    helper: (family) => addresses.filter((address) => familyOf(address) === family),
    port: Number(env['NATWORK_PORT']),
    payload: Number(env['NATWORK_PAYLOAD']),
    timeoutMs: Number(env['NATWORK_TIMEOUT']),
    helperInfo: JSON.parse(env['NATWORK_HELPER_INFO'] ?? 'null') as HelperInfo,
    peerInfo: JSON.parse(env['NATWORK_PEER_INFO'] ?? 'null') as PeerInfo,
  }
}

/** One line for the matrix. */
export function say(event: ProgramEvent): void {
  process.stdout.write(`${JSON.stringify(event)}\n`)
}

/** What breaks while everything is let go of is no news. */
export function fail(error: unknown): void {
  if (!resting) say({ event: 'failed', reason: error instanceof Error ? error.message : String(error) })
}

let resting = false

/** Lets go of everything that one run has opened. */
export type Stop = () => Promise<void> | void

/**
 * Plays the role's part, and again when the matrix says so; what it throws is the reason of the failure. A part says how
 * to end it by `onStop` as soon as there is something to end. Ends this process when the matrix is done with it.
 */
export function play(
  task: Task,
  parts: Readonly<Record<Role, (onStop: (stop: Stop) => void) => Promise<void>>>,
): void {
  const leave = (): void => process.exit(0)
  process.on('SIGTERM', leave)
  let stops: Stop[] = []
  const begin = (): void => {
    parts[task.role]((stop) => stops.push(stop)).catch(fail)
  }
  const rest = async (): Promise<void> => {
    resting = true
    for (const stop of stops.reverse()) await stop()
    stops = []
    say({ event: 'resting' })
  }
  createInterface({ input: process.stdin.on('error', leave) })
    .on('close', leave)
    .on('line', (line) => {
      const order = JSON.parse(line) as ProgramOrder
      if (order.do === 'rest') return void rest().catch(leave)
      resting = false
      task.peerInfo = order.peerInfo
      begin()
    })
  begin()
}

/** Milliseconds since it was called, to a tenth. */
export function startClock(): () => number {
  const started = performance.now()
  return () => Math.round((performance.now() - started) * 10) / 10
}

/** A reliable message channel, whatever carries it. */
export interface Channel {
  send(bytes: Uint8Array): void
  onData: (bytes: Uint8Array) => void
}

/**
 * A's side of the exchange: waits for B's greeting (the first byte), sends the payload, waits until B has it.
 *
 * @returns when the first byte came.
 */
export function sendPayload(channel: Channel, payload: number, clock: () => number): Promise<number> {
  return new Promise((resolve) => {
    let firstByte: number | undefined
    channel.onData = (bytes) => {
      if (firstByte === undefined) {
        firstByte = clock()
        for (let left = payload; left > 0; left -= CHUNK) {
          channel.send(new Uint8Array(Math.min(left, CHUNK)))
        }
      }
      if (bytes.includes(RECEIVED)) resolve(firstByte)
    }
  })
}

/** B's side of {@link sendPayload}. */
export function receivePayload(channel: Channel, payload: number): void {
  let received = 0
  channel.onData = (bytes) => {
    received += bytes.byteLength
    if (received >= payload) channel.send(Uint8Array.of(RECEIVED))
  }
  channel.send(Uint8Array.of(GREETING))
}

const CHUNK = 16_384
const GREETING = 1
const RECEIVED = 2

/** `require` from where a package is that natwork does not depend on: beside natwork, or the working directory. */
export function requireFor(name: string): NodeJS.Require {
  for (const place of [import.meta.url, join(process.cwd(), 'package.json')]) {
    const require = createRequire(place)
    try {
      require.resolve(name)
      return require
    } catch {
      continue
    }
  }
  throw new Error(`this adapter runs ${name}: npm install ${name}`)
}
