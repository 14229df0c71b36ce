/** rate-limiter-flexible on ioredis, or on pg (`PLACE=postgres`). */
import { Redis } from "ioredis";
import { Pool } from "pg";
import { RateLimiterPostgres, RateLimiterRedis } from "rate-limiter-flexible";
import type { Variant } from "../../harness/benchmark.ts";
import { measureCallers } from "../../harness/callers.ts";
import { keysOf } from "../rate-limit/keys.ts";

const { PLACE, KEYS, PIPELINED, SPENT, REDIS = "", POSTGRES = "" } = process.env;
// Under names of their own: the counters of one law would last for an hour.
const rule = SPENT ? { points: Number(SPENT), duration: 1, keyPrefix: "spent" } : { points: 1e9, duration: 3_600 };

const variant: Variant = async ({ load, seconds }) => {
  const keys = keysOf(Number(KEYS));
  if (PLACE === "postgres") {
    const pool = new Pool({ connectionString: POSTGRES, max: 10 });
    const limiter = await new Promise<RateLimiterPostgres>((resolve, reject) => {
      const made = new RateLimiterPostgres({ ...rule, storeClient: pool, tableName: "flexible" }, (error?: Error) => (error ? reject(error) : resolve(made)));
    });
    try {
      return await measureCallers(load, seconds, (nth) => limiter.consume(keys.at(nth)));
    } finally {
      await pool.end();
    }
  }
  const client = new Redis(REDIS, { enableAutoPipelining: PIPELINED !== undefined });
  const limiter = new RateLimiterRedis({ ...rule, storeClient: client });
  try {
    return await measureCallers(load, seconds, (nth) => limiter.consume(keys.at(nth))); // throws when one is refused
  } finally {
    client.disconnect();
  }
};
export default variant;
