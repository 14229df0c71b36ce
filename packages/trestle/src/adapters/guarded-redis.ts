/**
 * A client of `ioredis` under a policy: each command is a call. Questions may be repeated, commands that change something only when they surely were not done.
 */
import type { Policy } from "../resilience/index.ts";
import { guardOf } from "./guard.ts";

/** What is used of a client of `ioredis`. */
export interface RedisLike {
  getBuiltinCommands(): string[];
}

/** Commands that change nothing. */
const questions = new Set(
  [
    "bitcount bitpos dbsize dump echo exists expiretime geodist geohash geopos geosearch get getbit getrange hexists hget hgetall hkeys hlen hmget hscan hstrlen hvals",
    "info keys lindex llen lpos lrange mget object pexpiretime pfcount ping pttl randomkey scan scard sdiff sinter sintercard sismember smembers smismember",
    "srandmember sscan strlen sunion time ttl type xlen xpending xrange xrevrange zcard zcount zdiff zinter zlexcount zmscore zrandmember zrange zrank zrevrank zscan zscore zunion",
  ]
    .join(" ")
    .split(" "),
);

/**
 * The same client, whose commands go through `guard`: `guardedRedis(new Redis(url, { enableOfflineQueue: false }), pipeline(deadline("500ms"), retry(), breaker()))`. Everything
 * else is the client's own: events, `quit`, `call`, commands that you define, `multi` and `pipeline`, whose `exec` is one call when you make it one: `guard(() => redis.multi().incr("a").exec())`. Callbacks are not guarded: use the promise.
 */
export function guardedRedis<Client extends RedisLike>(client: Client, guard: Policy<string>): Client {
  guardOf(guard, "guardedRedis");
  const commands = new Set(client.getBuiltinCommands().map((name) => name.toLowerCase()));
  // `quit` ends the connection: a breaker that is open must not keep a process from stopping.
  const own = new Set(["multi", "exec", "quit"]);
  const guarded = new Map<PropertyKey, unknown>();
  return new Proxy(client, {
    get(target, name) {
      const known = guarded.get(name);
      if (known) return known;
      const member: unknown = Reflect.get(target, name, target);
      if (typeof member !== "function") return member;
      const command = String(name)
        .toLowerCase()
        .replace(/buffer$/, "");
      const method = (member as (...args: unknown[]) => unknown).bind(target);
      const result =
        commands.has(command) && !own.has(command)
          ? (...args: unknown[]) => guard(() => method(...args) as Promise<unknown>, { idempotent: questions.has(command) })
          : method;
      guarded.set(name, result);
      return result;
    },
  });
}
