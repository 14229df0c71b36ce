/** Limits of a fleet whose buckets are in a shared SQLite file, when the process that writes it is killed under them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sleep, systemClock, systemRandom, uuidv7Ids } from "../kernel/index.ts";
import { openSqlite } from "../sqlite/index.ts";
import { withFleet } from "../sqlite/testing/fleet.ts";
import { StorePlace } from "./store-place.ts";
import { limitAt, policies } from "./testing/limit-at.ts";

const clock = systemClock;
const burst = 40;

for (const [whenUnreachable] of policies)
  test(
    `[RES-10] the writer of a shared SQLite file is killed: ${whenUnreachable} holds until another one writes, and what was counted stays counted`,
    { timeout: 120_000 },
    () =>
      withFleet(2, async (fleet) => {
        const store = await openSqlite({ path: fleet.path });
        try {
          let byPolicy = 0;
          const limitOf = (id: string, onUnreachable = () => {}) =>
            limitAt(new StorePlace({ store, ids: uuidv7Ids(clock, systemRandom), clock, id }), { whenUnreachable, within: 100, burst, onUnreachable });
          const limit = limitOf("one", () => void byPolicy++);
          /** One after the other, until so many were answered by the store: admitted there, and by policy. */
          const take = async (most: number) => {
            const admitted = { store: 0, policy: 0 };
            for (let answered = 0, tries = 0; answered < most; tries++) {
              assert.ok(tries < 2_000, "it is not reached again");
              const before = byPolicy;
              const waitMs = await limit.take("key");
              const isPolicy = byPolicy > before;
              if (!isPolicy) answered++;
              if (waitMs === 0) admitted[isPolicy ? "policy" : "store"]++;
              if (isPolicy) await sleep(clock, 5);
            }
            return admitted;
          };
          let [counted, free] = [0, 0];
          const add = ({ store: ofStore, policy }: { readonly store: number; readonly policy: number }) => {
            counted += ofStore;
            free += policy;
          };
          add(await take(10));
          fleet.writer().signal("SIGKILL");
          add(await take(burst));

          // A draw whose answer came too late is counted, and may have let nobody in: less is admitted, never more.
          assert.ok(counted <= burst, `${counted} of ${burst} were counted`);
          if (whenUnreachable === "refuse") assert.equal(free, 0);
          if (whenUnreachable === "local-share") assert.ok(free <= burst, `${free}`);
          if (whenUnreachable === "admit") assert.equal(free, byPolicy);
          // Somebody else finds it as it was left.
          const other = limitOf("two");
          for (let tries = 0; other.look("key").left !== 0; tries++) {
            assert.ok(tries < 200, "all of it is taken");
            await other.take("key");
            await sleep(clock, 10);
          }
        } finally {
          await store.close();
        }
      }),
  );
