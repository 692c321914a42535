import { mkdir } from 'node:fs/promises'
import { ClassicLevel } from 'classic-level'
import { SystemError, type NatworkError } from '../core/errors.ts'
import { isNatworkError } from '../network/errors.ts'
import type { Records } from '../network/records.ts'
import { Directory, type DirectoryOptions } from './directory.ts'

/**
 * A directory on disk (LevelDB): survives restarts, one process at a time. Every write is on the disk when it resolves.
 *
 * @param folder made with mode 0700 when missing; belongs to the directory alone.
 * @throws {SystemError} `ERR_NATWORK_DIRECTORY_LOCKED`, `_CORRUPTED`, `_FULL`, or `ERR_NATWORK_DIRECTORY`.
 */
export async function openLevelDirectory(folder: string, options?: DirectoryOptions): Promise<Directory> {
  const level: Database = new ClassicLevel(folder, { valueEncoding: 'json' })
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    await level.open()
  } catch (error) {
    throw explain(error, folder)
  }
  return new Directory(
    {
      nodes: new LevelRecords(level, 'node', folder),
      tickets: new LevelRecords(level, 'ticket', folder),
      close: () => level.close(),
    },
    options,
  )
}

/** A database keeps its values by text keys; each table has its own prefix. */
type Database = ClassicLevel<string, unknown>

class LevelRecords<T> implements Records<T> {
  readonly #level: Database
  readonly #prefix: string
  readonly #folder: string

  constructor(level: Database, name: string, folder: string) {
    this.#level = level
    this.#prefix = `${name}/`
    this.#folder = folder
  }

  get(key: string): Promise<T | undefined> {
    return this.#explained(() => this.#level.get<string, T>(this.#prefix + key, {}))
  }

  // sync: LevelDB's write is otherwise only in the kernel's memory, and a ticket used once would be new after a crash.
  put(key: string, value: T): Promise<void> {
    return this.#explained(() => this.#level.put(this.#prefix + key, value, { sync: true }))
  }

  delete(key: string): Promise<void> {
    return this.#explained(() => this.#level.del(this.#prefix + key, { sync: true }))
  }

  async *entries(): AsyncGenerator<readonly [string, T]> {
    const from = this.#prefix
    try {
      const entries = this.#level.iterator<string, T>({ gte: from, lt: `${from}\uffff` })
      for await (const [key, value] of entries) yield [key.slice(from.length), value]
    } catch (error) {
      throw explain(error, this.#folder)
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
