import { MemoryRecords } from '../network/records.ts'
import { Directory, type DirectoryOptions } from './directory.ts'

/** A directory that ends with the process. */
export function memoryDirectory(options?: DirectoryOptions): Directory {
  return new Directory(
    { nodes: new MemoryRecords(), tickets: new MemoryRecords(), close: () => Promise.resolve() },
    options,
  )
}
