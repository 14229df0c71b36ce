/**
 * How many worlds a minute: `npm run bench -- simulation [--seconds 5] [--json] [--check]`. Compares with nothing; one process, so one core.
 *
 *   events    ten hosts that do nothing but sleep and wake: events a second, without any store
 *   seeds     one node, one client, five idempotent requests of which each sends three jobs: 200 events and 20 commits a seed, the store
 *             copied from an image; seeds a second
 *
 *   linearizable, list-append   one check of a history of 100,000 operations over 1,000 keys, and of 300,000 transactions; milliseconds, the median.
 *             The second throws when the process has held more than 1 GB
 *
 * `--check` fails below 300,000 events and 500 seeds a second, and above 300 ms and 3 s.
 */
import { tmpdir } from "node:os";
import { parseArgs } from "node:util";
import { app, post, queue, records, service } from "trestle";
import { sleep } from "trestle/kernel";
import { scenario, search } from "trestle/simulation";
import { z } from "zod";
import { World } from "../../packages/trestle/src/simulation/world.ts";
import { machine } from "../harness/machine.ts";
import linearizable from "./linearizable.ts";
import listAppend from "./list-append.ts";

const { values } = parseArgs({ options: { seconds: { type: "string", default: "5" }, json: { type: "boolean" }, check: { type: "boolean" } } });
const forMs = Number(values.seconds) * 1_000;

/** As fast as it gets: V8 has compiled everything after the first second. */
async function events(): Promise<number> {
  const world = new World({ seed: "bench" });
  for (let n = 0; n < 10; n++) {
    world.host(`host-${n}`).boot((life) => {
      void (async () => {
        for (;;) await sleep(life.clock, 1 + life.random.next());
      })();
    });
  }
  const run = async (ms: number): Promise<number> => {
    const [fromMs, before] = [performance.now(), world.happened];
    await world.run(() => performance.now() - fromMs > ms);
    return (world.happened - before) / ((performance.now() - fromMs) / 1_000);
  };
  await run(1_000);
  return run(forMs);
}

const done = records("done", { key: z.string(), value: z.int() });
const work = queue("work", { input: z.object({ id: z.string() }), uses: { done } }, ({ id }, { done }) => void done.put(id, 1));
const door = service(
  "door",
  { uses: { work, done } },
  {
    ask: post("/asks", { body: z.object({ id: z.string() }), idempotent: true }, ({ body: { id } }, { work, done }) => {
      done.put(id, 0);
      for (let part = 1; part <= 3; part++) work.send({ id: `${id} ${part}` });
      return {};
    }),
  },
);
const small = scenario(app("small", [door, work]), {
  uses: { door, done },
  nodes: 1,
  for: "1s",
  faults: {},
  clients: { count: 1, times: 5, each: async ({ door }, chance) => void (await door.ask({ body: { id: chance.id() } })) },
  eventually: {
    "all is done": async ({ done }) => {
      const { items } = await done.list({ limit: 100 });
      return items.filter((part) => part === 1).length === 3 * items.filter((part) => part === 0).length;
    },
  },
});

async function seeds(): Promise<{ readonly perSec: number; readonly events: number }> {
  const run = async (ms: number) => {
    const over = new AbortController();
    const fromMs = performance.now();
    let n = 0;
    const found = await search(small.app, small.scenario, {
      seeds: (function* () {
        while (performance.now() - fromMs < ms) yield `0x${(++n).toString(16)}`;
      })(),
      signal: over.signal,
    });
    if (found.broken) throw found.broken;
    return { perSec: found.seeds / ((performance.now() - fromMs) / 1_000), events: found.events / found.seeds };
  };
  await run(3_000);
  return run(forMs);
}

// First: the memory that is held to its bound is the process's.
const linearizableMs = Math.round((await linearizable({ load: 100_000, seconds: 1, scratch: "" })).p50Ms);
const listAppendMs = Math.round((await listAppend({ load: 300_000, seconds: 1, scratch: "" })).p50Ms);
const eventsPerSec = Math.round(await events());
const { perSec, events: eventsPerSeed } = await seeds();
const result = {
  subject: "simulation",
  machine: machine(tmpdir()),
  eventsPerSec,
  seedsPerSec: Math.round(perSec),
  eventsPerSeed: Math.round(eventsPerSeed),
  linearizableMs,
  listAppendMs,
};
process.stdout.write(
  values.json
    ? `${JSON.stringify(result, undefined, 2)}\n`
    : `${eventsPerSec} events/s without a store (bar 300000)\n${result.seedsPerSec} seeds/s of ${result.eventsPerSeed} events (bar 500)\n${linearizableMs} ms to judge 100,000 operations (bar 300)\n${listAppendMs} ms to judge 300,000 transactions (bar 3000)\n`,
);
if (values.check && (eventsPerSec < 300_000 || perSec < 500 || linearizableMs > 300 || listAppendMs > 3_000)) process.exitCode = 1;
