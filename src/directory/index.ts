export { createContext, type ContextOptions } from './context.ts'
export { Directory, type DirectoryDriver, type DirectoryOptions } from './directory.ts'
export { openLevelDirectory } from './level.ts'
export { memoryDirectory } from './memory.ts'
