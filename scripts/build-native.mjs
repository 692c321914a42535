// Builds the batched UDP driver's addon (native/udp) for Linux on x64 and arm64, each where its compiler is here.
//   node scripts/build-native.mjs           what is not of these sources yet
//   node scripts/build-native.mjs --force   everything
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { compile, sourceHash, targets } from '../native/udp/compile.mjs'
import { root } from './setup.mjs'
import { findProgram } from './system.mjs'

/** Brings native/udp/prebuilt up to date with the sources; says what it could not build. */
export function buildNative(force = false) {
  const folder = join(root, 'native/udp/prebuilt')
  mkdirSync(folder, { recursive: true })
  const hash = sourceHash()
  for (const { name, compilers } of targets) {
    const file = join(folder, `${name}.node`)
    if (!force && existsSync(file) && readFileSync(file).includes(hash)) continue
    const compiler = compilers.find((one) => findProgram(one) !== undefined)
    if (compiler === undefined) {
      console.error(
        `natwork: no ${compilers.join(' or ')} here: ${name}.node is not built from the sources as they are`,
      )
      continue
    }
    compile(compiler, file)
    console.error(`natwork: built native/udp/prebuilt/${name}.node`)
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href)
  buildNative(process.argv.includes('--force'))
