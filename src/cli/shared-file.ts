import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs'
import { z } from 'zod'
import type { Service } from '../network/index.ts'
import { nameSchema, nodeIdSchema } from './config.ts'
import { errnoOf, systemError } from './errors.ts'

const schema = z.record(
  nameSchema,
  z.object({ host: z.string(), port: z.int(), allow: z.array(nodeIdSchema) }),
)

/** What `natwork expose` shared, in a file, so that a restart shares it again. */
export class SharedFile {
  readonly #path: string
  readonly #services: Map<string, Service>

  private constructor(path: string, services: readonly Service[]) {
    this.#path = path
    this.#services = new Map(services.map((service) => [service.name, service]))
  }

  /** @throws {SystemError} `ERR_NATWORK_SHARED` when it is there but cannot be read. */
  static read(path: string): SharedFile {
    let text: string
    try {
      text = readFileSync(path, 'utf8')
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return new SharedFile(path, [])
      throw systemError('ERR_NATWORK_SHARED', `cannot read ${path}`, error)
    }
    try {
      const services = Object.entries(schema.parse(JSON.parse(text)))
      return new SharedFile(
        path,
        services.map(([name, service]) => ({ name, ...service })),
      )
    } catch (error) {
      const cause = new Error('it is damaged; move it away and share again with `natwork expose`', {
        cause: error,
      })
      throw systemError('ERR_NATWORK_SHARED', `cannot read ${path}`, cause)
    }
  }

  get services(): Iterable<Service> {
    return this.#services.values()
  }

  /** @throws {SystemError} `ERR_NATWORK_SHARED`; then the file is what it was. */
  set(service: Service): void {
    const next = new Map(this.#services).set(service.name, service)
    this.#write(next)
    this.#services.set(service.name, service)
  }

  /** @throws {SystemError} `ERR_NATWORK_SHARED`; then the file is what it was. */
  delete(name: string): void {
    const next = new Map(this.#services)
    if (!next.delete(name)) return
    this.#write(next)
    this.#services.delete(name)
  }

  // Written in full beside its place, then moved there: a full disk or a crash leaves the old file.
  #write(services: ReadonlyMap<string, Service>): void {
    const values = [...services.values()].map(({ name, host, port, allow = [] }) => [
      name,
      { host, port, allow },
    ])
    const temporary = `${this.#path}.new`
    try {
      const file = openSync(temporary, 'w', 0o600)
      try {
        writeSync(file, `${JSON.stringify(Object.fromEntries(values), null, 2)}\n`)
        fsyncSync(file)
      } finally {
        closeSync(file)
      }
      renameSync(temporary, this.#path)
    } catch (error) {
      rmSync(temporary, { force: true })
      throw systemError('ERR_NATWORK_SHARED', `cannot write ${this.#path}`, error)
    }
  }
}
