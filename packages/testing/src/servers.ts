/** The servers a test can have, and why it cannot. */
import { Fault } from "trestle/kernel";
import { postgresRecipe } from "./postgres.ts";
import { recipes, type KafkaOptions, type NatsOptions, type PgbouncerOptions, type RedisOptions } from "./recipes.ts";
import { reasonWithout, startServer, type Server } from "./server.ts";

export type ServerKind = "postgres" | "pgbouncer" | "redis" | "nats" | "kafka";

export interface MissingOptions {
  /** It must be one that tests may stop, pause and configure. Default false. */
  readonly managed?: boolean;
}

/**
 * For `skip`: why there is no such server here, or false when there is one. Looks for it, and installs it where that is allowed.
 *
 *     test("…", { skip: await missing("redis") }, async () => { await using server = await redis(); … });
 */
export async function missing(kind: ServerKind, options: MissingOptions = {}): Promise<string | false> {
  switch (kind) {
    case "postgres":
      return reasonWithout(postgresRecipe, options);
    case "pgbouncer":
      return reasonWithout(recipes.pgbouncer, options);
    case "redis":
      return reasonWithout(recipes.redis, options);
    case "nats":
      return reasonWithout(recipes.nats, options);
    case "kafka":
      return reasonWithout(recipes.kafka, options);
    default:
      throw Fault.create("testing.bad-option", `There is no server ${JSON.stringify(kind)}.`, "The kinds are postgres, pgbouncer, redis, nats and kafka.");
  }
}

/** A pool in front of a PostgreSQL. Its URL is the server's, with its own port. */
export function pgbouncer(options: PgbouncerOptions): Promise<Server> {
  return startServer(recipes.pgbouncer, options);
}

/** One Redis that keeps an append-only file. */
export function redis(options: RedisOptions = {}): Promise<Server> {
  return startServer(recipes.redis, options);
}

/** One NATS server, with JetStream unless told otherwise. */
export function nats(options: NatsOptions = {}): Promise<Server> {
  return startServer(recipes.nats, options);
}

/** One Kafka node without ZooKeeper. A Java machine needs some seconds to start. */
export function kafka(options: KafkaOptions = {}): Promise<Server> {
  return startServer(recipes.kafka, options);
}
