// `npm start`: install, build, then a node in the foreground.
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { build, installPackages, root } from './setup.mjs'

installPackages()
build()
const node = spawn(
  process.execPath,
  [join(root, 'dist/cli/main.js'), 'up', '--demo', ...process.argv.slice(2)],
  {
    stdio: 'inherit',
  },
)
// Ctrl-C reaches the child by the terminal's process group; a plain kill of this script must reach it too.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => signal !== 'SIGINT' && node.kill(signal))
}
node.on('exit', (code, signal) => process.exit(code ?? (signal === 'SIGINT' ? 130 : 143)))
