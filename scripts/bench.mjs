// `npm run bench [-- --help]`: install, compile the benchmark with the sources it measures, run it.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { buildBench } from './bench-build.mjs'
import { root, run } from './setup.mjs'

const folder = buildBench()
const quick = process.argv.includes('--quick')
if (!quick && !existsSync(join(root, 'tmp/bench/node_modules/@chainsafe/libp2p-quic'))) {
  // Not in package.json: it brings programs of 30 MB for each platform, and a lock file must name all of them.
  const npm = ['install', '--prefix', join(root, 'tmp/bench'), '--no-save', '--no-fund', '--no-audit']
  run('npm', [...npm, '--loglevel=error', '@chainsafe/libp2p-quic@1.1.8'], { stdio: ['ignore', 2, 2] })
}
run(process.execPath, [join(folder, 'main.js'), ...process.argv.slice(2)])
