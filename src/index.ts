export * from './core/index.ts'
export * from './directory/index.ts'
export * from './network/index.ts'
export { setDefaultDriver, type DriverChoice } from './socket/index.ts'
