// `npm run bench [-- --help]`: install, compile the benchmark with the sources it measures, run it.
import { cpSync } from 'node:fs'
import { join } from 'node:path'
import { buildNative } from './build-native.mjs'
import { installPackages, root, run } from './setup.mjs'

installPackages()
run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', 'bench/tsconfig.json'])
buildNative()
cpSync(join(root, 'native/udp/prebuilt'), join(root, 'tmp/bench/native/udp/prebuilt'), { recursive: true })
run(process.execPath, [join(root, 'tmp/bench/bench/main.js'), ...process.argv.slice(2)])
