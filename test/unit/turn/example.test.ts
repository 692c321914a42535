// 1 s. The page for strangers (docs/turn.md) is run, not believed.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

test('the example of the page is the one in examples/, and works', () => {
  const file = new URL('../../../examples/turn-relay.ts', import.meta.url)
  const page = readFileSync(new URL('../../../docs/turn.md', import.meta.url), 'utf8')
  // The page imports the package by its name, the file in this repository its source.
  const example = readFileSync(file, 'utf8')
  assert.ok(page.includes(example.replace(/'\.\.\/src\/(\w+)\/index\.ts'/g, "'natwork/$1'")))
  const said = execFileSync(process.execPath, ['--import', 'tsx', fileURLToPath(file)], { encoding: 'utf8' })
  assert.match(
    said,
    /^peers reach us at 127\.0\.0\.1\n(127\.0\.0\.1 says: hello, relay\n)+the relay brings: hello, peer\n(127\.0\.0\.1 says: hello, relay\n)*$/,
  )
})
