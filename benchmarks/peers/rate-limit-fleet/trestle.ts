/** A limit of the fleet, as a `limiter` asks it: in Redis, or in a store on PostgreSQL (`PLACE=postgres`). */
import { openPostgres } from "@trestle/postgres";
import { openLimits } from "@trestle/redis";
import { systemClock, systemRandom, uuidv7Ids } from "trestle/kernel";
import { FleetLimit, fleetRule, ReachedPlace, StorePlace, type Exactness, type LimitPlace } from "trestle/limits";
import type { Variant } from "../../harness/benchmark.ts";
import { measureCallers } from "../../harness/callers.ts";
import { keysOf } from "../rate-limit/keys.ts";

const { PLACE, KEYS, EXACTNESS = "exact", REDIS = "", POSTGRES = "" } = process.env;

async function placeOf(): Promise<{ readonly place: LimitPlace; close(): Promise<void> }> {
  if (PLACE !== "postgres") {
    const place = openLimits({ url: REDIS, app: "bench", id: "bench", clock: systemClock });
    return { place, close: () => place.close() };
  }
  const store = await openPostgres({ url: POSTGRES });
  const place = new StorePlace({ store, clock: systemClock, ids: uuidv7Ids(systemClock, systemRandom), id: "bench" });
  return { place, close: () => store.close() };
}

const variant: Variant = async ({ load, seconds }) => {
  const keys = keysOf(Number(KEYS));
  const { place, close } = await placeOf();
  const of = { across: "fleet", whenUnreachable: "refuse", exactness: EXACTNESS as Exactness } as const;
  const rule = fleetRule(of, { perSecond: 1e8, burst: 1e9, keys: 100_000 }, "bench", "bench");
  if (!rule) throw new Error("no rule");
  const limit = new FleetLimit({ rule, at: new ReachedPlace(place, systemClock), clock: systemClock, random: systemRandom });
  const admitted = (waitMs: number): void => {
    if (waitMs !== 0) throw new Error("refused");
  };
  const now = Promise.resolve();
  const ask = (nth: number): Promise<void> => {
    const took = limit.take(keys.at(nth));
    if (typeof took !== "number") return took.then(admitted);
    admitted(took);
    // Callers that are answered at once would never let the loop turn.
    return nth % 1_000 === 0 ? new Promise<void>((resolve) => systemClock.soon(resolve)) : now;
  };
  try {
    return await measureCallers(load, seconds, ask);
  } finally {
    await close();
  }
};
export default variant;
