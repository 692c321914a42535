// `npm run bench [-- --help]`: install, compile the benchmark with the sources it measures, run it.
import { join } from 'node:path'
import { installPackages, root, run } from './setup.mjs'

installPackages()
run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', 'bench/tsconfig.json'])
run(process.execPath, [join(root, 'tmp/bench/bench/main.js'), ...process.argv.slice(2)])
