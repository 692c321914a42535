export * from './channel-data.ts'
export * from './constants.ts'
export * from './framing.ts'
export type { IcmpError } from './icmp.ts'
