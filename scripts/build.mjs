// src/ → dist/.
import { chmodSync, existsSync } from 'node:fs'
import { join } from 'node:path'
import { buildNative } from './build-native.mjs'
import { installPackages, root, run } from './setup.mjs'

installPackages()
run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', 'tsconfig.build.json'])
const main = join(root, 'dist/cli/main.js')
if (existsSync(main)) chmodSync(main, 0o755)
buildNative()
const { prebuildHelper } = await import('../dist/lab/native.js')
await prebuildHelper()
