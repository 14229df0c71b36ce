/** What sessions of a PostgreSQL may see. */
export { anomalies } from "./anomalies.ts";
export type { Anomaly } from "./anomalies.ts";
export { lookOf, PostgresModel } from "./model.ts";
export type { Look } from "./model.ts";
export { describeAnswer, describeStep, inOrder, sqlStates } from "./step.ts";
export type { Answer, IsolationLevel, RowSeen, Statement, Step } from "./step.ts";
