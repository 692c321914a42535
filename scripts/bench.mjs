// `npm run bench [-- --help]`: install, compile the benchmark with the sources it measures, run it.
import { cpSync, existsSync } from 'node:fs'
import { join } from 'node:path'
import { buildNative } from './build-native.mjs'
import { installPackages, root, run } from './setup.mjs'

installPackages()
run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', 'bench/tsconfig.json'])
buildNative()
// Where the compiled sources look for them.
cpSync(join(root, 'native'), join(root, 'tmp/bench/native'), { recursive: true })
const quick = process.argv.includes('--quick')
if (!quick && !existsSync(join(root, 'tmp/bench/node_modules/@chainsafe/libp2p-quic'))) {
  // Not in package.json: it brings programs of 30 MB for each platform, and a lock file must name all of them.
  const npm = ['install', '--prefix', join(root, 'tmp/bench'), '--no-save', '--no-fund', '--no-audit']
  run('npm', [...npm, '--loglevel=error', '@chainsafe/libp2p-quic@1.1.8'], { stdio: ['ignore', 2, 2] })
}
run(process.execPath, [join(root, 'tmp/bench/bench/main.js'), ...process.argv.slice(2)])
