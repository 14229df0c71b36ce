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
  for: "10s",
  clients: {
    count: 3,
    times: 2,
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
            // It ended in time, and nothing was wrong with it.
            if (newest < own && Date.now() - ownAtMs > missedMs) throw new Error(`${own} was not heard, only ${newest}`);
          } catch (fault) {
            if (tries > 100 || (fault instanceof Error && fault.message.includes("heard"))) throw fault;
          }
          await new Promise((resolve) => setTimeout(resolve, 200));
        }
      };
      const listening = listen();
      await new Promise((resolve) => setTimeout(resolve, chance.integer(0, 300)));
      // Three at once, so that one comes while another one is read. What nobody answered may have been done or not: then there is nothing to hear of.
      const scored = await Promise.all(
        [1, 2, 3].map(() =>
          game.score().then(
            ({ body: { n } }) => n,
            () => 0,
          ),
        ),
      );
      own = Math.max(...scored);
      ownAtMs = Date.now();
      await listening;
    },
  },
});
