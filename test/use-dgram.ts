// Preloaded by `npm test -- --dgram`.
import { setDefaultDriver } from '../src/socket/index.ts'

setDefaultDriver('dgram')
