export * from './discover.ts'
export * from './port-mapper.ts'
