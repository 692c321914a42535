export type { Counters, DropCount, PairCount } from './emulator.ts'
export { LabSystemError, LabUsageError, type LabCode } from './errors.ts'
export type { ExitStatus, PipedProcess, ProgramOutput } from './keeper.ts'
export { Lab, type Blocked, type Capture, type ExecOptions, type LabHost, type LabOptions } from './lab.ts'
export {
  HOST_PATH,
  SITE_PATH,
  checkKind,
  parseTopology,
  type PathParameters,
  type PublicHost,
  type Site,
  type Topology,
} from './topology.ts'
export * from './matrix/index.ts'
export { compareScenarios, type ScenarioComparison, type ScenarioOptions } from './scenario/compare.ts'
export { checkScenarios, pairScenarios } from './scenario/names.ts'
export { runScenariosInLab } from './scenario/run.ts'
export {
  playFailure,
  slowSteps,
  type FailureOptions,
  type FailureResult,
  type StepResult,
} from './failures/run.ts'
export {
  chooseFailures,
  failureScenarios,
  type FailureEvent,
  type FailureScenario,
  type FailureStep,
} from './failures/scenarios.ts'
export type { Features } from './features.ts'
export type { Observed } from './observe.ts'
export { selfTest, type KindReport, type SelfTestOptions } from './self-test.ts'
export { execInRunningLab, runningLabs, type RunningLab } from './running.ts'
