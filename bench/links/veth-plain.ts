import { veth } from './veth.ts'

export const link = veth('veth without offloads', { offloads: false, loss: 0 })
