/** The app floor: from a list of components to a running node. */
export { app } from "./app.ts";
export type { App, AppSpec, Complete } from "./app.ts";
export type { Change, ChangesOptions, CommitChange } from "./changes.ts";
export { flawsFor, heldIn, holdIn } from "./degradation.ts";
export type { DegradationGiven, DegradationView, RouteView } from "./degradation.ts";
export { enginePackage, isPostgres, openStoreAt, withoutPassword } from "./engines.ts";
export type { Engines, StoreUrl } from "./engines.ts";
export type { Graph, GraphEdge, GraphNode } from "./graph.ts";
export type { Live } from "./live.ts";
export { open } from "./open.ts";
export { processPlan, supervise } from "./processes.ts";
export { supervised } from "./supervised.ts";
export type { ProcessPlan, SuperviseOptions } from "./processes.ts";
export { start, startInside } from "./start.ts";
export type { Inside, Node, NodeInside, StartOptions, Transaction } from "./start.ts";
export { jobStates, keptStates, queueAdmin, whichJobs } from "./queue-admin.ts";
export type { Acted, JobFacts, KeptState, QueueAdmin, Which } from "./queue-admin.ts";
