import { NatworkError, UsageError } from '../core/errors.ts'
import { World } from './world.ts'
import type { WorldOptions } from './world.ts'

export interface SimulateOptions extends Omit<WorldOptions, 'seed'> {
  /** How many seeds to run, from 1 on, or which. Default: 20. The environment's `NATWORK_SEED` runs that one alone. */
  readonly seeds?: number | readonly number[]
}

/** A run that failed: the seed to replay it by, and what was thrown as `cause`. */
export class SimulationError extends NatworkError<'ERR_NATWORK_SIM_FAILED'> {
  readonly seed: number

  constructor(seed: number, cause: unknown) {
    const what = cause instanceof Error ? cause.message : String(cause)
    super('ERR_NATWORK_SIM_FAILED', `seed ${seed}: ${what} (replay this run alone: NATWORK_SEED=${seed})`, {
      cause,
    })
    this.seed = seed
  }
}

/**
 * Runs `body` once per seed, each time in a new world. What it throws comes out with the seed that replays it.
 *
 * @throws {SimulationError} when a run fails.
 * @throws {UsageError} `ERR_NATWORK_SIM_SEED` when `NATWORK_SEED` is not 0–4294967295.
 */
export function simulate(body: (world: World) => void, options: SimulateOptions = {}): void {
  for (const seed of seedsOf(options.seeds ?? 20)) {
    const world = new World({ ...options, seed })
    try {
      body(world)
    } catch (cause) {
      throw new SimulationError(seed, cause)
    }
  }
}

function seedsOf(seeds: number | readonly number[]): readonly number[] {
  const alone = process.env['NATWORK_SEED']
  if (alone === undefined) {
    return typeof seeds === 'number' ? Array.from({ length: seeds }, (_, i) => i + 1) : seeds
  }
  const seed = Number(alone)
  if (!/^\d+$/.test(alone) || seed > 0xffffffff) {
    throw new UsageError('ERR_NATWORK_SIM_SEED', `NATWORK_SEED is "${alone}": it must be 0–4294967295`)
  }
  return [seed]
}
