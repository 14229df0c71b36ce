/** Many commands at once on one aggregate: each decides on the state that its event follows, also when that state was still on its way to the store. */
import { z } from "zod";
import { aggregate, app, command, post, refuse, service } from "../../index.ts";
import { scenario, sometimes } from "../index.ts";

const lots = ["clock", "chair"] as const;
const Lot = z.enum(lots);
const Cents = z.object({ cents: z.int().positive() });
/** Bids of one client that are on their way together. */
const atOnceMost = 4;

const lot = aggregate(
  "lot",
  {
    id: Lot,
    /** What was bid, and what the bidder was told was the highest until then. */
    events: { Raised: z.object({ from: z.int(), to: z.int() }) },
    initial: () => ({ highest: 0 }),
    evolve: { Raised: (_state, { to }) => ({ highest: to }) },
  },
  { bid: command(Cents, ({ highest }, { cents }, emit) => (cents > highest ? emit.Raised({ from: highest, to: cents }) : refuse("too-low"))) },
);
const hall = service(
  "hall",
  { uses: { lot } },
  {
    bid: post("/bids", { body: Cents.extend({ name: Lot }), idempotent: true, refuses: { "too-low": 409 } }, async ({ body: { name, cents } }, { lot }) => {
      const bid = await lot.bid(name, { cents });
      return bid.ok ? { version: bid.version } : bid;
    }),
  },
);

export const biddingTogether = scenario(app("hall", [hall]), {
  uses: { hall, lot },
  for: "10s",
  clients: {
    count: 4,
    times: 4,
    each: async ({ hall, lot }, chance) => {
      const name = chance.pick(lots);
      const { highest } = await lot.get(name);
      const bids = Array.from({ length: chance.integer(2, atOnceMost) }, () => highest + chance.integer(1, 100));
      const answers = await Promise.all(bids.map((cents) => hall.bid({ body: { name, cents } })));
      sometimes("several bids of one moment are taken", answers.filter(({ ok }) => ok).length > 1);
      sometimes(
        "a bid is too low",
        answers.some(({ ok }) => !ok),
      );
    },
  },
  always: {
    "each bid is higher than the one before, and was decided on that": async ({ lot }) => {
      for (const name of lots) {
        let highest = 0;
        for await (const { data } of lot.history(name)) {
          if (data.from !== highest || data.to <= highest) return false;
          highest = data.to;
        }
      }
      return true;
    },
  },
});
