/** Rate limits of the fleet: whatever fails, all nodes together admit what the law allows in any window, and a leased limit what it says more. */
import { z } from "zod";
import { app } from "../../index.ts";
import { limiter } from "../../limits/index.ts";
import { scenario, sometimes, type Operation } from "../index.ts";

const rate = 20;
const burst = 5;
const key = z.string();
const exact = limiter("exact", { key, rate: `${rate}/s`, burst, across: "fleet", whenUnreachable: "refuse" });
const leased = limiter("leased", { key, rate: `${rate}/s`, burst, across: "fleet", whenUnreachable: "refuse", exactness: "leased" });
/** A budget may be spent for 100 ms, by a clock that goes 5 % slow. */
const late = { exact: 0, leased: rate * 0.106 } as const;
type Of = keyof typeof late;

interface Took {
  readonly of: Of;
}
type Call = Operation<Took, boolean>;

/** What surely was admitted within a time: by calls that were made after its beginning, and answered before its end. */
function keepsTheLaw(calls: readonly Call[], of: Of): boolean {
  const admitted = calls.filter(({ call, result }) => call.of === of && result === true);
  return admitted.every(({ invokedAt: from }) => {
    const within = admitted.filter(({ invokedAt }) => invokedAt >= from).sort((a, b) => (a.returnedAt as number) - (b.returnedAt as number));
    return within.every(({ returnedAt }, nth) => nth + 1 <= burst + late[of] + (rate * ((returnedAt as number) - from + 1)) / 1_000);
  });
}

export const enteringByQuota = scenario(app("gate", [exact, leased]), {
  uses: { exact, leased },
  for: "10s",
  clients: {
    count: 4,
    times: 5,
    each: async (world, chance, history) => {
      const of: Of = chance.next() < 0.5 ? "exact" : "leased";
      await Promise.all(
        Array.from({ length: chance.integer(1, 8) }, async () => {
          const taken = history.invoke<boolean>({ of });
          const took = await world[of].take("gate");
          sometimes(`${of} admits`, took.ok);
          sometimes(`${of} refuses`, !took.ok);
          taken.ok(took.ok);
        }),
      );
    },
  },
  always: {
    "no window has more than its burst and what its rate gives": (_world, history) => keepsTheLaw(history.history<Took, boolean>(), "exact"),
    "no window has more than that and what its rate gives in 100 ms, where budgets are leased": (_world, history) =>
      keepsTheLaw(history.history<Took, boolean>(), "leased"),
  },
});
