/** Random lives of a queue on a real server, against the model of conformance/. `FUZZ_SEED=<seed>` replays one; `FUZZ_RUNS` says how many. */
import { test } from "node:test";
import { liveQueue } from "trestle/conformance";
import { seededRandom, uuidv7Ids, virtualClock } from "trestle/kernel";
import { fixture } from "./testing/fixture.ts";

const postgres = await fixture();
const given = process.env["FUZZ_SEED"];
const seeds = given ? [given] : Array.from({ length: Number(process.env["FUZZ_RUNS"] ?? 6) }, (_, i) => `queue-${i}`);

test("[F17] the life of a queue on PostgreSQL is what the model says, step by step and in bursts", { skip: postgres.skip }, async () => {
  for (const seed of seeds) {
    const random = seededRandom(seed);
    const clock = virtualClock();
    const store = await postgres.open(undefined, { time: clock });
    try {
      await liveQueue({ store, clock, ids: uuidv7Ids(clock, random), random, steps: 250 });
    } catch (error) {
      throw new Error(`seed ${seed}: FUZZ_SEED=${seed} npm test -- packages/postgres/src/queue.fuzz`, { cause: error });
    }
    await store.close();
  }
});
