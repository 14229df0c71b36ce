/** Records that expire: there until their time is over, and then gone, for everybody and for good. */
import { z } from "zod";
import { app, get, records, service } from "../../index.ts";
import { checkMonotonic, scenario, sometimes } from "../index.ts";

const expiresMs = 3_000;
/** How far a node may be out about the store's clock: its own runs up to 5 % wrong for the 15 s until it asks again, and answers may be a second late. */
const outMs = 1_500;
const holds = records("holds", { key: z.string(), value: z.string(), expire: `${expiresMs}ms` });

/** A read alone, which is no precondition of anything. */
const desk = service(
  "desk",
  { uses: { holds } },
  { look: get("/holds/:id", {}, async ({ params: { id } }, { holds }) => ({ isGone: (await holds.get(id)) === undefined })) },
);

export const holdingForAWhile = scenario(app("holding", [desk]), {
  uses: { desk, holds },
  for: "10s",
  clients: {
    count: 4,
    times: 4,
    each: async ({ desk, holds }, chance, history) => {
      const id = chance.id();
      const put = history.invoke({ kind: "put" }, id);
      await holds.put(id, "mine");
      put.ok();
      for (let looks = 0; looks < 4; looks++) {
        const look = history.invoke<number>({ kind: "look" }, id);
        const { isGone } = looks % 2 === 0 ? (await desk.look({ params: { id } })).body : { isGone: (await holds.get(id)) === undefined };
        look.ok(isGone ? 1 : 0);
        sometimes("it is there", !isGone);
        sometimes("it is gone", isGone);
        await new Promise((resolve) => setTimeout(resolve, chance.integer(50, 3_000)));
      }
    },
  },
  eventually: {
    "it is there until its time is over, and not longer": (_world, history) => {
      const puts = new Map<string | number | undefined, readonly [fromMs: number, toMs: number]>();
      for (const { key, call, invokedAt, returnedAt, result } of history.history<{ readonly kind: "put" | "look" }, number>()) {
        if (call.kind === "put") puts.set(key, [invokedAt, returnedAt ?? Infinity]);
        const [fromMs = 0, toMs = 0] = puts.get(key) ?? [];
        if (result === 1 && (returnedAt as number) < fromMs + expiresMs - outMs) return false;
        if (result === 0 && invokedAt > toMs + expiresMs + outMs) return false;
      }
      return true;
    },
    "what is gone does not come back": (_world, history) => checkMonotonic(history.history<unknown, number>(), { valueOf: ({ result }) => result }),
  },
});
