import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ClassicLevel } from 'classic-level'
import { SystemError, type NatworkError } from '../core/errors.ts'
import { isNatworkError } from '../network/errors.ts'
import { Turn, type Records } from '../network/records.ts'
import { Directory, type DirectoryOptions } from './directory.ts'

/**
 * A directory on disk (LevelDB): survives restarts, one process at a time. Every write is on the disk when it resolves.
 *
 * @param folder made with mode 0700 when missing; belongs to the directory alone.
 * @throws {SystemError} `ERR_NATWORK_DIRECTORY_LOCKED`, `_CORRUPTED`, `_FULL`, or `ERR_NATWORK_DIRECTORY`.
 */
export async function openLevelDirectory(folder: string, options?: DirectoryOptions): Promise<Directory> {
  const store = await LevelStore.open(folder)
  return new Directory(
    {
      nodes: store.table('node'),
      tickets: store.table('ticket'),
      close: () => store.close(),
    },
    options,
  )
}

/** One database; its tables are told apart by a prefix of the key. */
class LevelStore {
  readonly #folder: string
  readonly #level: ClassicLevel<string, unknown>
  /** Writes and reopening, one after the other. */
  readonly #turn = new Turn()
  #torn = false
  #reopening: Promise<void> | undefined

  static async open(folder: string): Promise<LevelStore> {
    const store = new LevelStore(folder)
    await store.#explained(async () => {
      await mkdir(folder, { recursive: true, mode: 0o700 })
      await store.#level.open()
    })
    return store
  }

  private constructor(folder: string) {
    this.#folder = folder
    this.#level = new ClassicLevel(folder, { valueEncoding: 'json' })
  }

  table<T>(name: string): Records<T> {
    const prefix = `${name}/`
    return {
      get: (key) => this.#read(() => this.#level.get<string, T>(prefix + key, {})),
      // sync: else a write is only in the kernel's memory, and after a crash a ticket once used would be new again.
      put: (key, value) => this.#write(() => this.#level.put(prefix + key, value, { sync: true })),
      delete: (key) => this.#write(() => this.#level.del(prefix + key, { sync: true })),
      entries: () => this.#entries<T>(prefix),
    }
  }

  close(): Promise<void> {
    return this.#turn.take(() => this.#level.close())
  }

  async *#entries<T>(prefix: string): AsyncGenerator<readonly [string, T]> {
    try {
      await this.#reopening
      const entries = this.#level.iterator<string, T>({ gte: prefix, lt: `${prefix}\uffff` })
      for await (const [key, value] of entries) yield [key.slice(prefix.length), value]
    } catch (error) {
      throw explain(error, this.#folder)
    }
  }

  #read<R>(act: () => Promise<R>): Promise<R> {
    return this.#explained(async () => {
      await this.#reopening
      return await act()
    })
  }

  #write(act: () => Promise<void>): Promise<void> {
    return this.#turn.take(() =>
      this.#explained(async () => {
        if (this.#torn) await this.#reopen()
        try {
          await act()
        } catch (error) {
          this.#torn = true
          throw error
        }
      }),
    )
  }

  // A write that failed may have left half a record in LevelDB's log, and whatever is written behind it would be gone
  // after the next start, though LevelDB reports success. Opening anew begins a new log. While the disk is still full
  // that would fail half-way and take the reads with it: hence the probe.
  async #reopen(): Promise<void> {
    const probe = join(this.#folder, 'probe.tmp')
    try {
      await writeFile(probe, Buffer.alloc(65_536), { flush: true })
    } finally {
      await rm(probe, { force: true })
    }
    this.#reopening = this.#level.close().then(() => this.#level.open())
    try {
      await this.#reopening
      this.#torn = false
    } finally {
      this.#reopening = undefined
    }
  }

  async #explained<R>(act: () => Promise<R>): Promise<R> {
    try {
      return await act()
    } catch (error) {
      throw explain(error, this.#folder)
    }
  }
}

function explain(error: unknown, folder: string): NatworkError {
  if (isNatworkError(error)) return error
  const causes = chain(error)
  const text = causes.map(({ message }) => message).join(': ')
  const codes = causes.map((cause) => ('code' in cause ? cause.code : undefined))
  if (codes.includes('LEVEL_LOCKED')) {
    return new SystemError(
      'ERR_NATWORK_DIRECTORY_LOCKED',
      `another natwork process uses the directory ${folder}: stop that one, or choose another folder`,
      { cause: error },
    )
  }
  if (/no space left|disk quota|ENOSPC|EDQUOT/i.test(text)) {
    return new SystemError(
      'ERR_NATWORK_DIRECTORY_FULL',
      `the disk of the directory ${folder} is full: free some space; what was stored before is kept`,
      { cause: error },
    )
  }
  if (
    codes.includes('LEVEL_CORRUPTION') ||
    codes.includes('LEVEL_DECODE_ERROR') ||
    /corruption/i.test(text)
  ) {
    return new SystemError(
      'ERR_NATWORK_DIRECTORY_CORRUPTED',
      `the directory ${folder} is damaged: move it away (its nodes are learned again; its tickets are lost)`,
      { cause: error },
    )
  }
  return new SystemError('ERR_NATWORK_DIRECTORY', `cannot use the directory ${folder}: ${text}`, {
    cause: error,
  })
}

function chain(error: unknown): Error[] {
  const all: Error[] = []
  for (let next = error; next instanceof Error && all.length < 8; next = next.cause) all.push(next)
  return all
}
