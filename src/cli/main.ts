#!/usr/bin/env node
import { run } from './program.ts'

// Not process.exit(): what is still on its way to stdout must get there, and a node that stopped holds nothing open.
// A command that ran well may have set what a program it ran for the user ended with (`natwork lab exec`).
const code = await run(process.argv.slice(2), process)
if (code !== 0 || process.exitCode === undefined) process.exitCode = code
