import { cpus, release } from 'node:os'
import { HOST_PATH, SITE_PATH } from '../topology.ts'
import type { Links } from './stage.ts'
import { ownVersion } from './stacks.ts'

/** Where and under what conditions a matrix runs, for people: what, then how it was. */
export function describeEnvironment(parallel: number, links: Links = {}): Record<string, string> {
  const processors = cpus()
  const { delay = SITE_PATH.delay, loss = SITE_PATH.loss } = links
  const trip = 2 * (delay + HOST_PATH.delay)
  const lost = loss === 0 ? 'no loss' : `${100 * loss} % lost on every way to and from the core`
  return {
    natwork: ownVersion(),
    'Node.js': process.version,
    System: `Linux ${release()}, ${processors.length} × ${processors[0]?.model ?? process.arch}`,
    Delays: `${4 * delay} ms round trip between sites, ${trip} ms to the helper, ${SITE_PATH.hops} hops more per site, ${lost}`,
    Runs: `${parallel === 1 ? 'one lab' : `${parallel} labs`} at a time, a lab per pair, routers flushed and programs restarted for every run`,
  }
}
