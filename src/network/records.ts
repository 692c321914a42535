/** A small table of JSON values: all that a directory driver has to bring. Keys are short ASCII texts. */
export interface Records<T> {
  get(key: string): Promise<T | undefined>
  /** Resolves when the value is as safe as the driver makes it. */
  put(key: string, value: T): Promise<void>
  delete(key: string): Promise<void>
  /** Every entry; entries that change meanwhile may be missed or old. */
  entries(): AsyncIterable<readonly [string, T]>
}

/** Gone with the process. */
export class MemoryRecords<T> implements Records<T> {
  readonly #map = new Map<string, T>()

  get(key: string): Promise<T | undefined> {
    return Promise.resolve(this.#map.get(key))
  }

  put(key: string, value: T): Promise<void> {
    this.#map.set(key, value)
    return Promise.resolve()
  }

  delete(key: string): Promise<void> {
    this.#map.delete(key)
    return Promise.resolve()
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- the interface is that of drivers that wait
  async *entries(): AsyncGenerator<readonly [string, T]> {
    yield* this.#map.entries()
  }
}

/** Runs tasks one after the other, so that a read and the write that follows from it are one step. */
export class Turn {
  #last: Promise<unknown> = Promise.resolve()

  take<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#last.then(task)
    this.#last = result.catch(() => undefined)
    return result
  }
}
