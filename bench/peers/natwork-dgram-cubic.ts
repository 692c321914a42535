import { natwork } from './natwork.ts'

export const peer = natwork('natwork (node:dgram, cubic)', 'dgram', 'cubic')
