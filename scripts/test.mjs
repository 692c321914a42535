// `npm test [-- [--dgram] FILE…]`: install, build, then node's own test runner over test/. With --dgram what binds UDP
// ports and asks for no driver gets node:dgram, as where there is no native driver.
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
const dgram = process.argv.includes('--dgram')
if (dgram) process.env.NATWORK_UDP_DRIVER = 'dgram' // for the commands that tests run
const chosen = process.argv.slice(2).filter((word) => word !== '--dgram')
const files = chosen.length > 0 ? chosen : globSync('test', '.test.ts')
const { status } = spawnSync(
  process.execPath,
  [
    '--import',
    'tsx',
    ...(dgram ? ['--import', './test/use-dgram.ts'] : []),
    '--test',
    '--test-reporter=spec',
    ...files,
  ],
  { cwd: root, stdio: 'inherit' },
)
process.exit(status ?? 1)
