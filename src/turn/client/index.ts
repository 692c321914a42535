export { TurnClient } from './client.ts'
export { MAX_PERMISSIONS } from './permissions.ts'
export type { Allocation, AllocationRequest, IcmpError, TurnClientOptions, TurnEvent } from './options.ts'
