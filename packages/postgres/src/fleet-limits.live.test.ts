/** Limits of a fleet whose buckets are in PostgreSQL, when that is killed and stands still: what is declared is what is observed. */
import { test } from "node:test";
import { systemClock as clock, systemRandom, uuidv7Ids } from "trestle/kernel";
import { StorePlace } from "trestle/limits";
import { assertHoldsWhileAway, policies } from "../../trestle/src/limits/testing/limit-at.ts";
import { fixture } from "./testing/fixture.ts";

const postgres = await fixture();
const { skip } = postgres;

for (const policy of policies)
  test(
    `[RES-10] PostgreSQL is killed, stands still and comes back: ${policy[0]} holds, nobody waits twice, and it counts again by itself`,
    { skip, timeout: 120_000 },
    async () => {
      const store = await postgres.open();
      await assertHoldsWhileAway(new StorePlace({ store, ids: uuidv7Ids(clock, systemRandom), clock, id: "one" }), postgres.server, policy);
    },
  );
