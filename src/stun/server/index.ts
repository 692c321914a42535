export * from './limiter.ts'
export * from './responder.ts'
export * from './server.ts'
