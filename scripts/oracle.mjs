// `npm run docs:oracle`: writes docs/oracle.md from the theory in src/sim/.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { format, resolveConfig } from 'prettier'
import { build, installPackages, root } from './setup.mjs'

installPackages()
build()
const { renderOracle } = await import('../dist/sim/index.js')
const file = join(root, 'docs/oracle.md')
mkdirSync(join(root, 'docs'), { recursive: true })
writeFileSync(file, await format(renderOracle(), { ...(await resolveConfig(file)), parser: 'markdown' }))
