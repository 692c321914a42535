import { sameAddress } from '../../core/address.ts'
import type { PathUse } from './connection.ts'

/** Uses remembered. */
const maxHistory = 16

/** The ways that data to a node went, the present one last. */
export class PathHistory {
  readonly #uses: PathUse[] = []

  get uses(): readonly PathUse[] {
    return [...this.#uses]
  }

  /** The one in use. */
  get current(): PathUse | undefined {
    const last = this.#uses.at(-1)
    return last?.until === undefined ? last : undefined
  }

  /** Data goes this way from now on. @returns whether it did not before. */
  begin(use: Omit<PathUse, 'since' | 'until'>, isSame: boolean): boolean {
    const { current } = this
    if (isSame && current !== undefined && sameAddress(current.remote, use.remote)) return false
    this.end()
    this.#uses.push({ ...use, since: new Date(), until: undefined })
    if (this.#uses.length > maxHistory) this.#uses.shift()
    return true
  }

  end(): void {
    const { current } = this
    if (current !== undefined) this.#uses[this.#uses.length - 1] = { ...current, until: new Date() }
  }
}
