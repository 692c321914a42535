export { Discovery, type DiscoveryOptions } from './driver/discovery.ts'
export { type Sighting } from './sightings.ts'
