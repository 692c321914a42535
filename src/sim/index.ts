export { MILLISECOND, SECOND } from '../core/machine.ts'
export type { Deadline, Machine, Micros, Path, Transmit } from '../core/machine.ts'
export type { SocketAddress } from '../core/address.ts'
export { World } from './world.ts'
export type { WireOptions, WorldOptions } from './world.ts'
export type { Host, HostOptions, BindOptions } from './host.ts'
export type { Attachment, SimSocket } from './socket.ts'
export type { Link, LinkOptions, GilbertElliott } from './link.ts'
export type { Internet } from './internet.ts'
export { formatEntry } from './trace.ts'
export type { Trace, TraceEntry } from './trace.ts'
export type { DropReason, IcmpError, Packet } from './packet.ts'
export type { Router } from './router.ts'
export { SITE_LINK } from './site.ts'
export type { Site, SiteOptions } from './site.ts'
export { extract, synthesize } from './prefix64.ts'
export { SimRng } from './rng.ts'
export * from './kinds.ts'
export {
  ALL_ABILITIES,
  BIRTHDAY,
  birthdayOdds,
  directPathPossible,
  oracleClasses,
  oracleRows,
  SIMPLE_PUNCH,
} from './oracle.ts'
export type { Ability, Method, OracleOptions, OracleRow, Verdict } from './oracle.ts'
export { PunchHelper } from './reference/helper.ts'
export { PunchPeer } from './reference/peer.ts'
export type { PunchEvent, PunchOptions } from './reference/peer.ts'
export { runScenario } from './run-scenario.ts'
export { pairScenario } from './scenario.ts'
export type { Scenario, ScenarioResult, Step, Who } from './scenario.ts'
export { classicScenarios, courseScenarios, scenarios } from './scenarios/classic.ts'
export { renderOracle } from './oracle-page.ts'
export { simulate, SimulationError } from './simulate.ts'
export type { SimulateOptions } from './simulate.ts'
