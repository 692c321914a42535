// How the addon is compiled: for the package (scripts/build-native.mjs), and by install.mjs where nothing was prebuilt.
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'

const folder = import.meta.dirname

/** What the package brings. */
export const targets = [
  { name: 'linux-x64', compilers: process.arch === 'x64' ? ['gcc', 'cc'] : ['x86_64-linux-gnu-gcc'] },
  { name: 'linux-arm64', compilers: process.arch === 'arm64' ? ['gcc', 'cc'] : ['aarch64-linux-gnu-gcc'] },
]

/** Compiles to `file`; throws what the compiler said. The same compiler gives the same bytes, wherever it runs. */
export function compile(compiler, file) {
  const temporary = `${file}.${process.pid}`
  try {
    execFileSync(compiler, [...flags, `-DSOURCE_HASH="${sourceHash()}"`, '-o', temporary, ...sources('.c')], {
      cwd: folder,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    renameSync(temporary, file)
  } catch (error) {
    rmSync(temporary, { force: true })
    throw error
  }
}

/** Tells a binary's sources; it is part of the binary. */
export function sourceHash() {
  const hash = createHash('sha256')
  for (const name of [...sources('.h'), ...sources('.c')]) hash.update(readFileSync(join(folder, name)))
  return hash.digest('hex').slice(0, 16)
}

// Linked to no libc: what is called is in every one, and Node has brought its own. So one binary serves glibc and musl.
const flags = [
  ...['-O2', '-std=gnu17', '-Wall', '-Wextra', '-Werror', '-fPIC', '-shared', '-nostdlib'],
  ...['-fvisibility=hidden', '-fno-stack-protector', '-U_FORTIFY_SOURCE', '-fno-asynchronous-unwind-tables'],
  ...['-Wl,--build-id=none', '-Wl,-s', '-Wl,-z,noexecstack', '-Wl,-z,relro', '-Wl,-z,now'],
]

function sources(ending) {
  return readdirSync(folder)
    .filter((name) => name.endsWith(ending))
    .sort()
}
