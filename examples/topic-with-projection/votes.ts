// How do I keep a table that follows events? A topic holds the facts, a projection folds them, and its position moves with its rows.
import { app, get, noContent, page, post, projection, service, start, topic, type StartOptions } from "trestle";
import { z } from "zod";

const Dish = z.enum(["soup", "salad", "pie"]);

export const votes = topic("votes", {
  events: { VoteCast: z.object({ dish: Dish, voter: z.string() }), VoteWithdrawn: z.object({ dish: Dish, voter: z.string() }) },
  key: ({ data }) => data.dish, // the votes of one dish keep their order
});

export const tally = projection(
  "tally",
  { from: votes, row: z.object({ dish: z.string(), count: z.int() }), when: "following" }, // after the commit, from a durable position
  {
    creates: { VoteCast: ({ dish }) => ({ dish, count: 1 }) },
    updates: {
      VoteCast: (row) => ({ ...row, count: row.count + 1 }),
      VoteWithdrawn: (row) => ({ ...row, count: row.count - 1 }),
    },
  },
);

export const canteen = service(
  "canteen",
  { uses: { votes, tally } },
  {
    vote: post("/votes", { body: z.object({ dish: Dish, voter: z.string() }), idempotent: true }, ({ body }, { votes }) => {
      votes.publish.VoteCast(body);
      return noContent();
    }),
    withdraw: post("/withdrawals", { body: z.object({ dish: Dish, voter: z.string() }), idempotent: true }, ({ body }, { votes }) => {
      votes.publish.VoteWithdrawn(body);
      return noContent();
    }),
    standing: get("/standing", { query: page() }, ({ query }, { tally }) => tally.list(query)),
  },
);

export const canteenApp = app("canteen", [canteen]);

export const main = (options: StartOptions = {}) => start(canteenApp, options);

if (import.meta.main) console.log((await main({ port: 3000 })).url);
