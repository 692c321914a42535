export { TurnClient } from './client.ts'
export { MAX_PERMISSIONS } from './permissions.ts'
export type { Allocation, AllocationRequest, TurnClientOptions, TurnEvent } from './options.ts'
