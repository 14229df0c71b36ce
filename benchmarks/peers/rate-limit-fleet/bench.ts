/**
 * Limits of a fleet: `npm run bench -- rate-limit-fleet`. So many callers of one process ask about 10,000 keys, or about one (`-hot`), of a limit that admits everything, each again as soon
 * as it was answered. The floor is rate-limiter-flexible on the same server: with its client as it comes, and with that client writing what is asked at once together (`-pipelined`).
 *
 * A leased budget stands for 100 ms, so leases pay off for keys that are asked more often than that: 10,000 keys of 64 callers are not, 1,000 (`-1000`) and one are.
 *
 * Those limits admit everything. `-spent` are 1,000 keys with `SPENT` tokens a second each, for both, which is less than what the callers ask of leases: they are spent to nothing, draws follow each other, and some takes
 * are refused. Only what was admitted counts there. At once a tenth of a second's tokens may come, which is the least that leases allow; the peer allows all of a second's in its window, and what it gets through is far below.
 *
 * How much a leased limit lets in beyond its law is measured by `overshoot.ts`, beside this file.
 */
import { missing, postgres, redis } from "@trestle/testing";
import { runBenchmark, type VariantSpec } from "../../harness/benchmark.ts";

const lacking = { redis: await missing("redis"), postgres: await missing("postgres") };
await using cache = lacking.redis ? undefined : await redis();
await using store = lacking.postgres ? undefined : await postgres();

const variant = (name: string, module: string, env: Readonly<Record<string, string>> = {}): VariantSpec => ({
  name,
  module: new URL(`./${module}.ts`, import.meta.url),
  env: { ...env, ...(cache && { REDIS: cache.url }), ...(store && { POSTGRES: store.url }) },
});
const both = (name: string, module: string, env: Readonly<Record<string, string>> = {}): readonly VariantSpec[] => [
  variant(name, module, { ...env, KEYS: "10000" }),
  variant(`${name}-hot`, module, { ...env, KEYS: "1" }),
];
// Each is the stronger one somewhere: what is ahead is ahead of both.
/** Tokens a second of each of 1,000 keys: five sixths of what 64 callers of one process ask of leases that never run out, on two cores. */
const spent = "1400";
const peers = ["flexible-redis", "flexible-redis-pipelined"];

await runBenchmark({
  subject: "rate-limit-fleet",
  loads: [64],
  seconds: 3,
  skipped: Object.values(lacking).filter((why) => why !== false),
  variants: [
    ...(cache
      ? [
          ...both("trestle-redis", "trestle"),
          ...both("trestle-redis-leased", "trestle", { EXACTNESS: "leased" }),
          variant("trestle-redis-leased-1000", "trestle", { EXACTNESS: "leased", KEYS: "1000" }),
          variant("flexible-redis-1000", "flexible", { KEYS: "1000" }),
          variant("flexible-redis-pipelined-1000", "flexible", { KEYS: "1000", PIPELINED: "yes" }),
          variant("trestle-redis-leased-1000-spent", "trestle", { EXACTNESS: "leased", KEYS: "1000", SPENT: spent }),
          variant("flexible-redis-1000-spent", "flexible", { KEYS: "1000", SPENT: spent }),
          variant("flexible-redis-pipelined-1000-spent", "flexible", { KEYS: "1000", PIPELINED: "yes", SPENT: spent }),
          ...both("flexible-redis", "flexible"),
          ...both("flexible-redis-pipelined", "flexible", { PIPELINED: "yes" }),
        ]
      : []),
    ...(store ? [...both("trestle-postgres", "trestle", { PLACE: "postgres" }), ...both("flexible-postgres", "flexible", { PLACE: "postgres" })] : []),
  ],
  ratios: [
    ...peers.flatMap((peer) => [
      { over: "trestle-redis-leased-1000", under: `${peer}-1000`, load: 64, atLeast: 20 },
      { over: "trestle-redis-leased-1000-spent", under: `${peer}-1000-spent`, load: 64 },
    ]),
    ...["", "-hot"].flatMap((kind) => [
      ...peers.flatMap((peer) => [
        { over: `trestle-redis${kind}`, under: `${peer}${kind}`, load: 64, atLeast: 1 },
        { over: `trestle-redis${kind}`, under: `${peer}${kind}`, load: 64, of: "p99Ms" as const, atMost: 1 },
        { over: `trestle-redis-leased${kind}`, under: `${peer}${kind}`, load: 64, atLeast: 20 },
      ]),
      { over: `trestle-postgres${kind}`, under: `flexible-postgres${kind}`, load: 64 },
    ]),
  ],
});
