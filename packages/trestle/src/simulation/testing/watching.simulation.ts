/** Watching a record: whoever listens comes to what is there, and never goes back. */
import { z } from "zod";
import { app, post, records, service, sse } from "../../index.ts";
import { scenario, sometimes } from "../index.ts";

const scores = records("scores", { key: z.string(), value: z.object({ n: z.int() }) });
const game = service(
  "game",
  { uses: { scores } },
  {
    score: post("/scores", { idempotent: true }, async (_request, { scores }) => {
      const n = ((await scores.get("all"))?.n ?? 0) + 1;
      scores.put("all", { n });
      return { n };
    }),
    listen: sse("/scores", { uses: { scores }, timeout: "60s" }, (_request, { scores }) => scores.watch("all")),
  },
);

/** Longer than anything is wrong. */
const missedMs = 30_000;

export const watchingScores = scenario(app("game", [game]), {
  uses: { game, scores },
  for: "5s",
  // What makes a watch miss something is what makes messages late: answers that overtake, or are overtaken by, the news of a change.
  faults: { reorder: true, "slow-disk": true, crash: true, partition: true },
  clients: {
    count: 4,
    times: 3,
    each: async ({ game }, chance) => {
      let [own, ownAtMs, newest] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, 0];
      const listen = async () => {
        // A connection that ends, or of which nothing is heard, is made again, as a browser does.
        for (let tries = 1; newest < own; tries++) {
          try {
            for await (const item of await game.listen()) {
              const n = item?.n ?? 0;
              if (n < newest) throw new Error(`${n} was heard after ${newest}`);
              sometimes("somebody hears what another one did", n > newest && newest > 0);
              newest = n;
              if (newest >= own) return;
            }
          } catch (fault) {
            if (tries > 100 || (fault instanceof Error && fault.message.includes("was heard after"))) throw fault;
          }
          // Connected all the while, or again and again.
          if (newest < own && Date.now() - ownAtMs > missedMs) throw new Error(`${own} was not heard, only ${newest}`);
          await new Promise((resolve) => setTimeout(resolve, 200));
        }
      };
      const listening = listen();
      await new Promise((resolve) => setTimeout(resolve, chance.integer(0, 300)));
      // One right after the other, so that one comes while another one is read. What nobody answered may have been done or not: then there is nothing to hear of.
      let scored = 0;
      for (let times = 0; times < 4; times++) scored = (await game.score().catch(() => undefined))?.body.n ?? scored;
      own = scored;
      ownAtMs = Date.now();
      await listening;
    },
  },
});
