// Compiles the benchmarks with the sources that they measure, to tmp/bench: TypeScript's runners change what functions cost.
import { cpSync, readFileSync, writeFileSync } from 'node:fs'
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
  const { name, version, type } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  writeFileSync(join(built, 'package.json'), JSON.stringify({ name, version, type }))
  return join(built, 'bench')
}
