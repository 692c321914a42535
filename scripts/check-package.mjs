// What users get: the tarball of `npm pack` is checked by publint and attw, installed into an empty project and
// used there from JavaScript and from TypeScript.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { root, run } from './setup.mjs'

const project = mkdtempSync(join(tmpdir(), 'natwork-package-'))
const bin = (name) => join(root, 'node_modules/.bin', name)
try {
  const packed = execFileSync('npm', ['pack', '--json', '--silent', '--pack-destination', project], {
    cwd: root,
    encoding: 'utf8',
  })
  const [{ filename }] = JSON.parse(packed.slice(packed.indexOf('[')))
  const tarball = join(project, filename)
  run(bin('publint'), ['run', tarball, '--strict'])
  run(bin('attw'), [tarball, '--profile', 'esm-only'])

  const inProject = { cwd: project }
  writeFileSync(join(project, 'package.json'), '{ "private": true, "type": "module" }\n')
  run('npm', ['install', '--silent', '--no-fund', '--no-audit', tarball], inProject)
  writeFileSync(
    join(project, 'use.mjs'),
    `import { parseAddress } from 'natwork'
if (parseAddress('192.0.2.1:1315').port !== 1315) process.exit(1)
`,
  )
  run(process.execPath, ['use.mjs'], inProject)
  writeFileSync(
    join(project, 'use.ts'),
    `import { parseAddress, type SocketAddress } from 'natwork'
export const at: SocketAddress = parseAddress('192.0.2.1:1315')
`,
  )
  const strict = ['--strict', '--module', 'nodenext', '--target', 'es2022', '--noEmit', '--types', 'node']
  const nodeTypes = ['--typeRoots', join(root, 'node_modules/@types')]
  run(bin('tsc'), [...strict, ...nodeTypes, 'use.ts'], inProject)
  console.log(`package: ${filename} passes publint and attw, and works from JavaScript and from TypeScript`)
} finally {
  rmSync(project, { recursive: true, force: true })
}
