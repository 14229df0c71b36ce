/** Limits of a fleet whose buckets are in PostgreSQL, when that is killed and stands still: what is declared is what is observed. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { seededRandom, sleep, systemClock, systemRandom, uuidv7Ids } from "trestle/kernel";
import { fleetRule, FleetLimit, ReachedPlace, StorePlace } from "trestle/limits";
import { fixture } from "./testing/fixture.ts";

const postgres = await fixture();
const { skip } = postgres;
const clock = systemClock;

for (const [whenUnreachable, admitted] of [
  ["admit", 30],
  ["refuse", 0],
  ["local-share", 20],
] as const)
  test(
    `[RES-10] PostgreSQL is killed, stands still and comes back: ${whenUnreachable} holds, nobody waits twice, and it counts again by itself`,
    { skip, timeout: 120_000 },
    async () => {
      const store = await postgres.open();
      const place = new StorePlace({ store, ids: uuidv7Ids(clock, systemRandom), clock, id: "one" });
      const rule = fleetRule(
        { across: "fleet", whenUnreachable, within: 1_500 },
        { perSecond: 1 / 3_600, burst: 20, keys: 1_000 },
        "test",
        `test ${whenUnreachable}`,
      );
      assert.ok(rule);
      const limit = new FleetLimit({ rule, at: new ReachedPlace(place, clock), clock, random: seededRandom("test") });
      /** Answered by the store, and not by policy. */
      const counts = async (key: string) => {
        for (let tries = 0; ; tries++) {
          assert.ok(tries < 600, "it is not reached again");
          const taken = limit.take(`${key} ${tries}`);
          if (typeof taken !== "number" && (await taken) === 0 && limit.look(`${key} ${tries}`).left === 19) return;
          await sleep(clock, 50);
        }
      };
      await counts("before");

      for (const [fail, mend] of [
        ["kill", "start"],
        ["pause", "resume"],
      ] as const) {
        await postgres.server[fail]();
        // The first ones may wait, or be refused the connection at once; from then on nobody does.
        const first = await limit.take(`${fail} 0`);
        assert.equal(first === 0, whenUnreachable !== "refuse", `${fail}: the first`);
        let count = 0;
        for (let nth = 0; nth < 30; nth++) {
          const taken = limit.take(fail);
          assert.equal(typeof taken, "number", `${fail}: nobody waits`);
          if (taken === 0) count++;
        }
        assert.equal(count, admitted, fail);

        await postgres.server[mend]();
        await counts(`again ${fail}`);
      }
    },
  );
