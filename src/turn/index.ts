export * from './errors.ts'
export * from './protocol/index.ts'
export * from './client/index.ts'
export * from './driver/client/index.ts'
