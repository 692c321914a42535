import { tcp } from './tcp.ts'

export const peer = tcp('TCP (node:net, bbr)')
