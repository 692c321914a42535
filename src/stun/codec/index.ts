export * from './builder.ts'
export * from './registry.ts'
export * from './view.ts'
