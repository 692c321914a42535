import type { SocketAddress } from '../../core/index.ts'
import type { NotAdmitted, TurnListen } from '../../turn/index.ts'
import type { RelayConfig } from './config.ts'
import type { RelaySnapshot } from './snapshot.ts'

/** What the relay tells its worker processes. */
export type ToWorker =
  | {
      readonly type: 'start'
      /** From 1 on. */
      readonly worker: number
      readonly workers: number
      readonly settings: WorkerSettings
      /** With the ports that were bound. */
      readonly listen: readonly TurnListen[]
      /** For each UDP port of `listen`: file descriptors of this process. */
      readonly inherited: readonly (readonly number[])[]
      readonly admin?: SocketAddress
      /** Relayed transport addresses of the others, as `address port`. */
      readonly relayed: readonly string[]
    }
  | { readonly type: 'configure'; readonly settings: WorkerSettings }
  | { readonly type: 'admitted'; readonly id: number; readonly not?: NotAdmitted }
  | { readonly type: 'relayed'; readonly took: readonly string[]; readonly freed: readonly string[] }
  | { readonly type: 'drain'; readonly milliseconds: number; readonly alternate?: SocketAddress }
  | { readonly type: 'snapshot'; readonly id: number }
  | { readonly type: 'close' }

/** What they tell it. */
export type FromWorker =
  | { readonly type: 'ready' }
  | { readonly type: 'up'; readonly streams: readonly SocketAddress[] }
  | { readonly type: 'failed'; readonly code: string; readonly message: string }
  | { readonly type: 'configured'; readonly error?: string }
  | { readonly type: 'admit'; readonly id: number; readonly account: string; readonly source: string }
  | {
      readonly type: 'news'
      readonly released: readonly (readonly [account: string, source: string])[]
      readonly took: readonly string[]
      readonly freed: readonly string[]
    }
  | { readonly type: 'snapshot'; readonly id: number; readonly snapshot: RelaySnapshot }
  /** No new allocations from here on. */
  | { readonly type: 'draining' }
  | { readonly type: 'drained' }

export interface WorkerSettings {
  readonly config: RelayConfig
  /** Where it was read: what it names is seen from there. */
  readonly file: string
  readonly oldChannels: boolean
}

export const keyOf = ({ address, port }: SocketAddress): string => `${address} ${port}`
