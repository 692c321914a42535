// `node --test` of Node 20 expands no globs.
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './setup.mjs'

/** Every file below `folder` (relative to the project) whose name ends in `ending`, sorted. */
export function globSync(folder, ending) {
  return readdirSync(join(root, folder), { recursive: true })
    .filter((name) => name.endsWith(ending))
    .map((name) => join(folder, name))
    .sort()
}
