// `npm start [-- FLAGS of natwork up]`: install, build, then a node in the foreground, in this very process, so that
// Ctrl-C and kill reach it and its exit code is ours.
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { build, installPackages, root } from './setup.mjs'

installPackages()
build()
if (process.env.npm_lifecycle_event === 'start') endWithParent()
process.argv.splice(2, 0, 'up', '--demo')
await import(pathToFileURL(join(root, 'dist/cli/main.js')).href)

// `kill` of npm ends the shell that npm put between us, and that shell tells nobody: without it we are not wanted.
function endWithParent() {
  const parent = process.ppid
  setInterval(() => process.ppid !== parent && process.kill(process.pid, 'SIGTERM'), 250).unref()
}
