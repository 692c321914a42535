/**
 * The largest of the values of the last `length` rounds, with three numbers instead of all of them (Kathleen Nichols'
 * algorithm): the best, and the best of those that came after the one before.
 */
export class WindowedMax {
  readonly #length: number
  readonly #values = [0, 0, 0]
  readonly #rounds = [0, 0, 0]

  constructor(length: number) {
    this.#length = length
  }

  get value(): number {
    return this.#values[0] as number
  }

  add(round: number, value: number): void {
    const values = this.#values
    const rounds = this.#rounds
    if (value >= (values[0] as number) || round - (rounds[2] as number) > this.#length) {
      this.reset(round, value)
      return
    }
    if (value >= (values[1] as number)) {
      values[1] = values[2] = value
      rounds[1] = rounds[2] = round
    } else if (value >= (values[2] as number)) {
      values[2] = value
      rounds[2] = round
    }
    const age = round - (rounds[0] as number)
    if (age > this.#length) {
      // The best is too old: the next two move up, twice when the second is too old as well.
      this.#moveUp(round, value)
      if (round - (rounds[0] as number) > this.#length) this.#moveUp(round, value)
    } else if (rounds[1] === rounds[0] && age > this.#length / 4) {
      values[1] = values[2] = value
      rounds[1] = rounds[2] = round
    } else if (rounds[2] === rounds[1] && age > this.#length / 2) {
      values[2] = value
      rounds[2] = round
    }
  }

  reset(round: number, value: number): void {
    this.#values.fill(value)
    this.#rounds.fill(round)
  }

  #moveUp(round: number, value: number): void {
    this.#values[0] = this.#values[1] as number
    this.#rounds[0] = this.#rounds[1] as number
    this.#values[1] = this.#values[2] as number
    this.#rounds[1] = this.#rounds[2] as number
    this.#values[2] = value
    this.#rounds[2] = round
  }
}
