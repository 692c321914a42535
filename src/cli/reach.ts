import type { Duplex } from 'node:stream'
import { ask, askAndFollow, askForStream, readGreeting } from './control/client.ts'
import { asNatworkError } from './errors.ts'
import { controlPath } from './folders.ts'
import type { ForwardEvent, Forwarding } from './forwarding.ts'
import type { Goal, Peer } from './goal.ts'
import type { HostPort } from './names.ts'
import type { Settings } from './shell.ts'

/** How a ping went; times in milliseconds. */
export interface Pong {
  readonly id: string
  /** The UDP address that answered. */
  readonly remote: string
  /** How it goes there: from machine to machine, or through a relay. */
  readonly path: 'direct' | 'relayed'
  /** From nothing to an authenticated connection. */
  readonly connect: number
  /** One round trip on it, through both programs. */
  readonly roundTrip: number
}

/** Why a node is reached the way it is. */
export interface Why {
  readonly id: string
  readonly outcome: 'direct' | 'relayed' | 'none'
  /** One sentence, with what to do where something can be done. */
  readonly sentence: string
  /** What was tried, the path in use first. */
  readonly pairs: readonly { local: string; remote: string; rtt: number | undefined; words: string }[]
  /** The ways that data has gone. */
  readonly history: readonly { path: 'direct' | 'relayed'; remote: string; since: string }[]
  /** Each step, oldest first. */
  readonly trace: readonly object[]
}

/** A way to other nodes: through the node that runs here, or else by a network of this command's own. */
export interface Reach {
  /** Opens a pipe. */
  open(goal: Goal, signal: AbortSignal): Promise<Duplex>
  /** Listens on a TCP port of this machine whose connections become pipes. Events may come before it resolves. */
  forward(
    goal: Goal,
    at: HostPort,
    onEvent: (event: ForwardEvent) => void,
    signal: AbortSignal,
  ): Promise<Forwarding>
  ping(peer: Peer, signal: AbortSignal): Promise<Pong>
  why(peer: Peer, signal: AbortSignal): Promise<Why>
  close(): Promise<void>
}

/** @throws {NatworkError} what the control socket or the network says. */
export async function openReach(settings: Settings, signal: AbortSignal): Promise<Reach> {
  const path = controlPath(settings.folders)
  try {
    const { socket } = await readGreeting(path, signal)
    socket.destroy()
  } catch (error) {
    if (asNatworkError(error)?.code !== 'ERR_NATWORK_NO_NODE') throw error
    // Loaded only here: through a running node a command needs none of it, and starts in half the time.
    const { openOwnReach } = await import('./own-reach.ts')
    return openOwnReach(settings, signal)
  }
  return {
    open: (goal, aborted) => askForStream(path, { request: 'connect', goal }, aborted),
    async forward(goal, at, onEvent, aborted) {
      const { result, ended, close } = await askAndFollow(
        path,
        { request: 'forward', goal, at },
        aborted,
        (event) => onEvent(event as ForwardEvent),
      )
      return { address: result as HostPort, ended, close }
    },
    ping: async (peer, aborted) => (await ask(path, { request: 'ping', peer }, aborted)) as Pong,
    why: async (peer, aborted) => (await ask(path, { request: 'why', peer }, aborted)) as Why,
    close: () => Promise.resolve(),
  }
}
