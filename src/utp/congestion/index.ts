import { Bbr } from './bbr.ts'
import type { CongestionController, CongestionName } from './controller.ts'
import { Cubic } from './cubic.ts'
import { Ledbat } from './ledbat.ts'

export const CONGESTION_NAMES: readonly CongestionName[] = ['bbr', 'cubic', 'ledbat']

/** `packetSize` is the payload of a full packet. */
export function createController(name: CongestionName, packetSize: number): CongestionController {
  switch (name) {
    case 'bbr':
      return new Bbr(packetSize)
    case 'cubic':
      return new Cubic(packetSize)
    case 'ledbat':
      return new Ledbat(packetSize)
  }
}
