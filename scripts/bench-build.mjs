// Compiles the benchmarks with the sources that they measure, to tmp/bench: TypeScript's runners change what functions cost.
import { cpSync } from 'node:fs'
import { join } from 'node:path'
import { buildNative } from './build-native.mjs'
import { installPackages, root, run } from './setup.mjs'

/** Where the compiled benchmarks are. */
export function buildBench() {
  installPackages()
  run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', 'bench/tsconfig.json'])
  buildNative()
  const built = join(root, 'tmp/bench')
  // Where the compiled sources look for them.
  cpSync(join(root, 'native'), join(built, 'native'), { recursive: true })
  cpSync(join(root, 'package.json'), join(built, 'package.json'))
  return join(built, 'bench')
}
