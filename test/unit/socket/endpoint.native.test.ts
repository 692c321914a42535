import { setDefaultDriver } from '../../../src/socket/index.ts'

setDefaultDriver('native')
await import('./endpoint-suite.ts')
