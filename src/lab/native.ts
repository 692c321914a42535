import { createHash } from 'node:crypto'
import { execFile } from 'node:child_process'
import { accessSync, constants, existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { chmod, mkdir, rename, rm } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { LabSystemError } from './errors.ts'

const run = promisify(execFile)

/**
 * The lab's helper program (native/lab): the one built with the package if it is of these very sources, else compiled
 * once into the user's cache.
 *
 * @throws {LabSystemError} `ERR_NATWORK_LAB_PLATFORM`, `ERR_NATWORK_LAB_NO_COMPILER`.
 */
export async function helperProgram(): Promise<string> {
  if (process.platform !== 'linux') {
    throw new LabSystemError('ERR_NATWORK_LAB_PLATFORM', 'the lab needs Linux (network namespaces)')
  }
  const name = helperName()
  const built = join(packageRoot, 'dist/native', name)
  if (existsSync(built)) return built
  const folder = cacheFolder()
  const cached = join(folder, name)
  if (!existsSync(cached)) await compileHelper(cached)
  // In a temporary folder somebody else may have put one there before us.
  if (statSync(cached).uid !== process.getuid?.() || statSync(folder).uid !== process.getuid()) {
    throw new LabSystemError('ERR_NATWORK_LAB_NO_PERMISSION', `${folder} belongs to somebody else: remove it`)
  }
  return cached
}

/**
 * For the build of the package: leaves the helper in dist/native where this machine can compile it. Elsewhere users
 * compile it themselves, once.
 *
 * @internal
 */
export async function prebuildHelper(): Promise<void> {
  if (process.platform !== 'linux' || findProgram('cc') === undefined) return
  const target = join(packageRoot, 'dist/native', helperName())
  if (existsSync(target)) return
  await rm(dirname(target), { recursive: true, force: true })
  await compileHelper(target)
}

/** Compiles native/lab to `target`; two at once do not disturb each other. */
export async function compileHelper(target: string): Promise<void> {
  const compiler = ['cc', 'gcc', 'clang'].map(findProgram).find((found) => found !== undefined)
  if (compiler === undefined) {
    throw new LabSystemError(
      'ERR_NATWORK_LAB_NO_COMPILER',
      'the lab compiles a small helper once and found no C compiler: apt-get install gcc libc6-dev',
    )
  }
  await mkdir(dirname(target), { recursive: true, mode: 0o755 })
  const temporary = `${target}.${process.pid}`
  try {
    // Static: it then also runs where the C library is another one.
    await run(compiler, ['-O2', '-std=gnu17', '-static', '-o', temporary, ...sources('.c')])
    await chmod(temporary, 0o755)
    await rename(temporary, target)
  } catch (cause) {
    await rm(temporary, { force: true })
    throw new LabSystemError(
      'ERR_NATWORK_LAB_NO_COMPILER',
      `${compiler} could not compile the lab's helper (are the headers there? apt-get install libc6-dev)`,
      { cause },
    )
  }
}

/** Where a program is; daemons lie outside a plain user's PATH on Debian. */
export function findProgram(name: string): string | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin', '/usr/local/sbin']
  return folders.map((folder) => join(folder, name)).find((file) => existsSync(file))
}

// From src/lab/ and from dist/lab/ alike.
const packageRoot = fileURLToPath(new URL('../..', import.meta.url))

function sources(ending: string): string[] {
  const folder = join(packageRoot, 'native/lab')
  return readdirSync(folder)
    .filter((name) => name.endsWith(ending))
    .sort()
    .map((name) => join(folder, name))
}

function helperName(): string {
  return `natwork-lab-${sourceHash()}-${process.arch}`
}

function sourceHash(): string {
  const hash = createHash('sha256')
  for (const file of [...sources('.h'), ...sources('.c')]) hash.update(readFileSync(file))
  return hash.digest('hex').slice(0, 12)
}

function cacheFolder(): string {
  const base = process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache')
  return writableParent(base) ? join(base, 'natwork') : join(tmpdir(), `natwork-${process.getuid?.() ?? 0}`)
}

// A user without a home (nobody, a daemon) has the temporary folder.
function writableParent(folder: string): boolean {
  return existsSync(folder)
    ? isWritable(folder)
    : existsSync(join(folder, '..')) && isWritable(join(folder, '..'))
}

function isWritable(folder: string): boolean {
  try {
    accessSync(folder, constants.W_OK)
    return true
  } catch {
    return false
  }
}
