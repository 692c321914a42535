export { builtInStacks, loadAdapter } from './stacks.ts'
export {
  PAYLOAD,
  parseEvent,
  type Adapter,
  type PathKind,
  type ProgramEnvironment,
  type ProgramEvent,
  type Role,
} from './contract.ts'
export { describeEnvironment } from './environment.ts'
export { choosePairs, type PairChoice } from './pairs.ts'
export { writeReport, type WrittenReport } from './report/write.ts'
export { parseResults, type MatrixHeader, type Results, type RunRecord } from './results.ts'
export { runMatrix, type MatrixOptions, type Pair, type Progress } from './runner.ts'
export { labStage, pairTopology, type Links, type Stage, type StageProcess } from './stage.ts'
export {
  summarize,
  type Cell,
  type CellState,
  type Expectation,
  type StackSummary,
  type Times,
  type Totals,
} from './summary.ts'
export type { Traffic, Verdict } from './verdict.ts'
