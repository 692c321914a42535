import { emulated, rtt50 } from './emulated.ts'

export const link = emulated('50 ms round trip', rtt50)
