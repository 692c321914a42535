export * from './channel-data.ts'
export * from './constants.ts'
export * from './framing.ts'
