// Run by npm when natwork is installed: where the package brings no addon, one is compiled if there is a C compiler.
// Without it natwork uses node:dgram, so nothing here is an error.
import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { compile } from './compile.mjs'

const folder = import.meta.dirname
const name = `${process.platform}-${process.arch}.node`
if (process.platform === 'linux' && !existsSync(join(folder, 'prebuilt', name))) {
  try {
    mkdirSync(join(folder, 'build'), { recursive: true })
    compile('cc', join(folder, 'build', name))
  } catch {
    // No compiler, or a folder that is not ours.
  }
}
