/**
 * Eight processes that take jobs from one SQLite file, eight callers in each: `npm run bench -- sqlite-processes`.
 *
 * Each caller claims one job of 600,000 that wait, durably, and asks again. `busy-timeout` is what people do today: every process has a connection of its own
 * and claims in BEGIN IMMEDIATE with a busy timeout of 5 s, synchronous=FULL, the same table, index and statements. `trestle` asks the store. The
 * least share is what the process with the fewest claims got, as a part of an equal one. With `+1ms-fsync` each flush takes that much longer: what
 * group commit saves is flushes, and a virtual disk that answers in 0.1 ms hides them.
 */
import { runBenchmark } from "../harness/benchmark.ts";
import { slowFsync } from "../harness/slow-fsync.ts";

const load = 8;
const slow = slowFsync(1_000);
const variants = (["busy-timeout", "trestle"] as const).map((name) => ({ name: name as string, module: new URL(`./${name}.ts`, import.meta.url) }));

await runBenchmark({
  subject: "sqlite-processes",
  loads: [load],
  variants: [...variants, ...("env" in slow ? variants.map((variant) => ({ ...variant, name: `${variant.name}+1ms-fsync`, env: slow.env })) : [])],
  ratios: [
    { over: "trestle", under: "busy-timeout", load, atLeast: 4 },
    { over: "trestle+1ms-fsync", under: "busy-timeout+1ms-fsync", load, atLeast: 4 },
  ],
  bars: [{ variant: "trestle", load, of: "leastShare", atLeast: 0.5 }],
  skipped: "missing" in slow ? [`+1ms-fsync: ${slow.missing}`] : [],
});
