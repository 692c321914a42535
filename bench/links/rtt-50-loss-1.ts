import { emulated, rtt50 } from './emulated.ts'

export const link = emulated('50 ms round trip, 1 % loss', { ...rtt50, loss: 0.01 })
