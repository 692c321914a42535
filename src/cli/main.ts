#!/usr/bin/env node
import { run } from './program.ts'

// Not process.exit(): what is still on its way to stdout must get there, and a node that stopped holds nothing open.
process.exitCode = await run(process.argv.slice(2), process)
