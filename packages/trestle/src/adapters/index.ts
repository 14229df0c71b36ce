/** Adapters: policies of resilience and limits in the libraries a service already stands on. They need none of these libraries themselves. */
export { guardedFetch } from "./guarded-fetch.ts";
export type { Fetch, GuardedFetchOptions } from "./guarded-fetch.ts";
export { guardedPool } from "./guarded-pool.ts";
export type { GuardedPool, GuardedPoolOptions, PgClientLike, PgPoolLike, PgRows } from "./guarded-pool.ts";
export { guardedRedis } from "./guarded-redis.ts";
export type { RedisLike } from "./guarded-redis.ts";
export { edge } from "./edge.ts";
export type { Edge, EdgeLimit, EdgeOptions, Passage } from "./edge.ts";
export { expressEdge, expressProblems } from "./express.ts";
export type { Next, NodeMiddleware } from "./express.ts";
export { fastifyEdge } from "./fastify.ts";
export type { FastifyLike, FastifyReplyLike, FastifyRequestLike } from "./fastify.ts";
export { honoEdge } from "./hono.ts";
export type { HonoContextLike } from "./hono.ts";
export { nestEdge } from "./nest.ts";
export type { NestConsumerLike, NestEdgeOptions, NestModule } from "./nest.ts";
export { problemOf } from "./problem.ts";
export type { ProblemAnswer } from "./problem.ts";
