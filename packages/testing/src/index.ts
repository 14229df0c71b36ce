/** Real servers, processes and broken networks for tests. */
export { carryOut } from "./carry-out.ts";
export type { CarriedOut, LiveHost, LiveLink, LiveTargets } from "./carry-out.ts";
export { faultProxy } from "./fault-proxy.ts";
export type { Direction, FaultProxy, FaultProxyOptions, Target } from "./fault-proxy.ts";
export { freePort } from "./free-port.ts";
export { guardedDirectory } from "./guard.ts";
export type { GuardedDirectory } from "./guard.ts";
export { nodeProcess, nodeProcesses } from "./node-processes.ts";
export type { NodeProcess, NodeProcesses, NodeProcessesOptions, NodeProcessOptions } from "./node-processes.ts";
export { postgres } from "./postgres.ts";
export type { PostgresNode, PostgresOptions, PostgresServer, PostgresSettings, PostgresStandby } from "./postgres.ts";
export type { KafkaOptions, NatsOptions, PgbouncerOptions, RedisOptions } from "./recipes.ts";
export type { Server } from "./server.ts";
export { kafka, missing, nats, pgbouncer, redis } from "./servers.ts";
export type { MissingOptions, ServerKind } from "./servers.ts";
