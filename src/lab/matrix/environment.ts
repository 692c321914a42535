import { cpus, release } from 'node:os'
import { HOST_PATH, SITE_PATH } from '../topology.ts'
import { ownVersion } from './stacks.ts'

/** Where and under what conditions a matrix runs, for people: what, then how it was. */
export function describeEnvironment(parallel: number): Record<string, string> {
  const processors = cpus()
  const trip = 2 * (SITE_PATH.delay + HOST_PATH.delay)
  return {
    natwork: ownVersion(),
    'Node.js': process.version,
    System: `Linux ${release()}, ${processors.length} × ${processors[0]?.model ?? process.arch}`,
    Delays: `${4 * SITE_PATH.delay} ms round trip between sites, ${trip} ms to the helper, ${SITE_PATH.hops} hops more per site, no loss`,
    Runs: `${parallel === 1 ? 'one lab' : `${parallel} labs`} at a time, a lab per pair, routers flushed and programs restarted for every run`,
  }
}
