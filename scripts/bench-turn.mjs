// `npm run bench:turn [-- --help]`: install, compile the benchmark with the sources it measures, run it.
import { join } from 'node:path'
import { buildBench } from './bench-build.mjs'
import { run } from './setup.mjs'

run(process.execPath, [join(buildBench(), 'turn/main.js'), ...process.argv.slice(2)])
