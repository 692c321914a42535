// What users get: the tarball of `npm pack` is checked by publint and attw, installed into an empty project and
// used there from JavaScript and from TypeScript.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
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
  // Every way in, as a user writes it.
  const { exports: ways } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const names = Object.keys(ways)
    .filter((way) => way !== './package.json')
    .map((way) => 'natwork' + way.slice(1))
  const imports = names.map((name, i) => `import * as way${i} from '${name}'\n`).join('')
  const list = names.map((_, i) => `way${i}`).join(', ')
  writeFileSync(
    join(project, 'use.mjs'),
    `${imports}if ([${list}].some((way) => Object.keys(way).length === 0)) process.exit(1)\n`,
  )
  run(process.execPath, ['use.mjs'], inProject)
  run(join(project, 'node_modules/.bin/natwork'), ['--version'], inProject)
  // What `natwork relay --help` and docs/relay.md send people to.
  for (const file of ['docs/relay.md', 'examples/relay/relay.yaml', 'examples/relay/natwork-relay.service']) {
    readFileSync(join(project, 'node_modules/natwork', file))
  }
  if (process.platform === 'linux' && ['x64', 'arm64'].includes(process.arch)) {
    // The addon comes with the package: no compiler is asked for.
    const say = `const server = new UtpServer({ port: 0 }); await server.start();
      console.log(server.endpoint.driver); await server.stop()`
    writeFileSync(join(project, 'driver.mjs'), `import { UtpServer } from 'natwork/utp'\n${say}\n`)
    const driver = execFileSync(process.execPath, ['driver.mjs'], { ...inProject, encoding: 'utf8' })
    if (!driver.startsWith('native')) throw new Error(`the native driver is not in the package: ${driver}`)
  }
  writeFileSync(join(project, 'use.ts'), `${imports}export const ways: object[] = [${list}]\n`)
  const strict = ['--strict', '--module', 'nodenext', '--target', 'es2022', '--noEmit', '--types', 'node']
  const nodeTypes = ['--typeRoots', join(root, 'node_modules/@types')]
  run(bin('tsc'), [...strict, ...nodeTypes, 'use.ts'], inProject)
  console.log(`package: ${filename} passes publint and attw, and works from JavaScript and from TypeScript`)
} finally {
  rmSync(project, { recursive: true, force: true })
}
