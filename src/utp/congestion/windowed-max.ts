/**
 * The largest of the values of the last `length` rounds, with three numbers instead of all of them (Kathleen Nichols'
 * algorithm): the best, and the best of those that came after the one before.
 */
export class WindowedMax {
  /** The best. */
  value = 0
  readonly #length: number
  #round = 0
  #second = 0
  #secondRound = 0
  #third = 0
  #thirdRound = 0

  constructor(length: number) {
    this.#length = length
  }

  add(round: number, value: number): void {
    if (value >= this.value || round - this.#thirdRound > this.#length) {
      this.reset(round, value)
      return
    }
    if (value >= this.#second) this.#setSecond(round, value)
    else if (value >= this.#third) this.#setThird(round, value)
    const age = round - this.#round
    if (age > this.#length) {
      // The best is too old: the next two move up, twice when the second is too old as well.
      this.#moveUp(round, value)
      if (round - this.#round > this.#length) this.#moveUp(round, value)
    } else if (this.#secondRound === this.#round && age > this.#length / 4) {
      this.#setSecond(round, value)
    } else if (this.#thirdRound === this.#secondRound && age > this.#length / 2) {
      this.#setThird(round, value)
    }
  }

  reset(round: number, value: number): void {
    this.value = value
    this.#round = round
    this.#setSecond(round, value)
  }

  #setSecond(round: number, value: number): void {
    this.#second = value
    this.#secondRound = round
    this.#setThird(round, value)
  }

  #setThird(round: number, value: number): void {
    this.#third = value
    this.#thirdRound = round
  }

  #moveUp(round: number, value: number): void {
    this.value = this.#second
    this.#round = this.#secondRound
    this.#second = this.#third
    this.#secondRound = this.#thirdRound
    this.#setThird(round, value)
  }
}
