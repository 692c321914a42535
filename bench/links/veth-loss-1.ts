import { veth } from './veth.ts'

export const link = veth('veth without offloads, 1 % loss', { offloads: false, loss: 0.01 })
