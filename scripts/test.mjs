// `npm test [-- FILE…]`: install, build, then node's own test runner over test/.
import { globSync } from './glob.mjs'
import { spawnSync } from 'node:child_process'
import { delimiter, join } from 'node:path'
import { installSystemPackages } from './system.mjs'
import { build, installPackages, root } from './setup.mjs'

// npm puts the programs of our packages first: its `stun` must not stand in for Debian's.
process.env.PATH = (process.env.PATH ?? '')
  .split(delimiter)
  .filter((folder) => !folder.endsWith(join('node_modules', '.bin')))
  .join(delimiter)

installPackages()
build()
if (process.env.CI === 'true' && process.getuid?.() === 0) installSystemPackages()
const chosen = process.argv.slice(2)
const files = chosen.length > 0 ? chosen : globSync('test', '.test.ts')
const { status } = spawnSync(
  process.execPath,
  ['--import', 'tsx', '--test', '--test-reporter=spec', ...files],
  { cwd: root, stdio: 'inherit' },
)
process.exit(status ?? 1)
