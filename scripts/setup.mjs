// What both commands need on a fresh machine, done once: the packages of package-lock.json and a build of dist/.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = dirname(dirname(fileURLToPath(import.meta.url)))

/** Runs a program with our terminal; ends this process with its exit code when it fails. */
export function run(program, args, options = {}) {
  const { status, error } = spawnSync(program, args, { cwd: root, stdio: 'inherit', ...options })
  if (error) {
    console.error(`natwork: cannot run ${program}: ${error.message}`)
    process.exit(1)
  }
  if (status !== 0) process.exit(status ?? 1)
}

/** `npm ci` unless node_modules already is what the lock file says (npm leaves a copy of it there). */
export function installPackages() {
  const [major = 0] = process.versions.node.split('.').map(Number)
  if (major < 20) {
    console.error(`natwork needs Node.js 20 or newer; this is ${process.version}. See https://nodejs.org`)
    process.exit(1)
  }
  const installed = join(root, 'node_modules/.package-lock.json')
  if (
    existsSync(installed) &&
    statSync(installed).mtimeMs >= statSync(join(root, 'package-lock.json')).mtimeMs
  ) {
    return
  }
  if (existsSync(installed) && samePackages(installed)) return
  console.error('natwork: installing packages (once) …')
  run('npm', ['ci', '--no-fund', '--no-audit', '--loglevel=error'], { stdio: ['ignore', 2, 2] })
}

// A checkout can make the lock file look newer than it is: compare what it says.
function samePackages(installed) {
  const read = (file) => JSON.parse(readFileSync(file, 'utf8')).packages
  const wanted = read(join(root, 'package-lock.json'))
  const have = read(installed)
  return Object.entries(wanted).every(
    ([path, entry]) => path === '' || entry.optional || have[path]?.version === entry.version,
  )
}

/** Compiles src/ to dist/; the compiler itself skips what has not changed. */
export function build() {
  run(process.execPath, [join(root, 'scripts/build.mjs')])
}
