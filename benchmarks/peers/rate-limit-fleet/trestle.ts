/** A limit of the fleet, as a `limiter` asks it: in Redis, or in a store on PostgreSQL (`PLACE=postgres`). */
import { openPostgres } from "@trestle/postgres";
import { openLimits } from "@trestle/redis";
import { systemClock, systemRandom, uuidv7Ids } from "trestle/kernel";
import { FleetLimit, fleetRule, ReachedPlace, StorePlace, type Exactness, type LimitPlace } from "trestle/limits";
import type { Variant } from "../../harness/benchmark.ts";
import { measureCallers } from "../../harness/callers.ts";
import { keysOf } from "../rate-limit/keys.ts";

const { PLACE, KEYS, EXACTNESS = "exact", SPENT, REDIS = "", POSTGRES = "" } = process.env;

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
  const rule = fleetRule(of, { perSecond: Number(SPENT ?? 1e8), burst: SPENT === undefined ? 1e9 : Number(SPENT) / 10, keys: 100_000 }, "bench", "bench");
  if (!rule) throw new Error("no rule");
  const limit = new FleetLimit({ rule, at: new ReachedPlace(place, systemClock), clock: systemClock, random: systemRandom });
  let [asked, refused] = [0, 0];
  const answered = (waitMs: number): void => {
    asked++;
    if (waitMs === 0) return;
    if (SPENT === undefined) throw new Error("refused");
    refused++;
  };
  const now = Promise.resolve();
  const ask = (nth: number): Promise<void> => {
    const took = limit.take(keys.at(nth));
    if (typeof took !== "number") return took.then(answered);
    answered(took);
    // Callers that are answered at once would never let the loop turn.
    return nth % 1_000 === 0 ? new Promise<void>((resolve) => systemClock.soon(resolve)) : now;
  };
  try {
    const measured = await measureCallers(load, seconds, ask);
    if (SPENT !== undefined) process.stderr.write(`${((100 * refused) / asked).toFixed(1)} % of the takes refused\n`);
    return { ...measured, opsPerSec: measured.opsPerSec * (1 - refused / asked) };
  } finally {
    await close();
  }
};
export default variant;
