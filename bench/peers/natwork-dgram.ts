import { natwork } from './natwork.ts'

/** natwork's uTP on node:dgram, as its users get it where there is no native driver. */
export const peer = natwork('natwork (node:dgram)', 'dgram', 'bbr')
