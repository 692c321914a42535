import { emulated, rate100 } from './emulated.ts'

export const link = emulated('100 Mbit/s, 50 ms, queue of one BDP', rate100)
