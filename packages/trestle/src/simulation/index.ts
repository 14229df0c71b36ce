/** The whole app in virtual time, under faults drawn from a seed. */
export { always, reachable, sometimes } from "../kernel/index.ts";
export type { Chance } from "./chance.ts";
export { describeFault, faultKinds } from "./fault-plan.ts";
export type { FaultKind, FaultPlan, PlannedFault } from "./fault-plan.ts";
export { model } from "./outside.ts";
export type { Model, ModelWire } from "./outside.ts";
export { keepRegression } from "./regressions.ts";
export type { Regression } from "./regressions.ts";
export { isSimulation, scenario } from "./scenario.ts";
export type { StoreKind } from "./store-host.ts";
export type { LiveUses, Promises, Scenario, Simulation } from "./scenario.ts";
export type { SeedHistory } from "./seed-history.ts";
export type { SeedFailure, SeedResult, TraceLine } from "./seed-run.ts";
export { search, simulate } from "./simulate.ts";
export type { Search, SearchOptions } from "./simulate.ts";
export { timeline } from "./timeline.ts";
export {
  allOf,
  checkCausal,
  checkClock,
  checkConservation,
  checkConvergence,
  checkDelivery,
  checkHybridClock,
  checkLinearizable,
  checkListAppend,
  checkMonotonic,
  checkSequential,
  checkSessions,
  checkStaleness,
  counter,
  fifoQueue,
  historyFromJsonLines,
  historyToJsonLines,
  lease,
  mutex,
  recordHistory,
  register,
  set,
} from "./checkers/index.ts";
export type {
  Anomaly,
  Answering,
  CausalOptions,
  Checked,
  ClockCall,
  ClockOptions,
  ConservationOptions,
  ConvergenceOptions,
  CounterCall,
  Decision,
  DeliveryCall,
  DeliveryPromise,
  History,
  HistoryRecorder,
  HybridClockBounds,
  HybridReading,
  Isolation,
  LeaseCall,
  LeaseState,
  ListAppendOptions,
  Member,
  MicroOperation,
  MutexCall,
  Operation,
  Problem,
  QueueCall,
  RegisterCall,
  SearchBounds,
  SessionGuarantee,
  SetCall,
  Specification,
  Transaction,
  Value,
  Verdict,
  Versioned,
  VersionedCall,
  VersionedHistory,
} from "./checkers/index.ts";
