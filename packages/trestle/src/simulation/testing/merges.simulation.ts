/** Merges: additions, unions and first values are judged at the commit; each counts once, and no guard is passed. */
import { z } from "zod";
import { app, Fault, records } from "../../index.ts";
import {
  allOf,
  checkLinearizable,
  counter,
  scenario,
  set,
  sometimes,
  type CounterCall,
  type History,
  type Member,
  type SeedHistory,
  type SetCall,
} from "../index.ts";

const stock = records("stock", { key: z.string(), value: z.int() });
const tags = records("tags", { key: z.string(), value: z.array(z.string()) });
const winner = records("winner", { key: z.string(), value: z.string() });

const ofKey = <Call, Result>(history: SeedHistory, key: string): History<Call, Result> => history.history<Call, Result>().filter((one) => one.key === key);

export const merging = scenario(app("merging", [stock, tags, winner]), {
  uses: { stock, tags, winner },
  for: "10s",
  clients: {
    count: 4,
    times: 5,
    each: async ({ stock, tags, winner }, chance, history) => {
      const how = chance.next();
      if (how < 0.5) {
        const amount = chance.pick([3, -1, -2, -4]);
        const add = history.invoke({ kind: "add", amount }, "stock");
        try {
          await stock.add("all", amount, { min: 0 });
          add.ok();
        } catch (fault) {
          if (!Fault.is(fault, "commit.guard-refused")) throw fault;
          add.failed();
          sometimes("there is too little");
        }
        const read = history.invoke<number>({ kind: "read" }, "stock");
        read.ok((await stock.get("all")) ?? 0);
      } else if (how < 0.8) {
        const member = chance.pick(["red", "green", "blue", "grey"]);
        const add = history.invoke({ kind: "add", member }, "tags");
        await tags.union("all", [member]);
        add.ok();
        const look = history.invoke<readonly Member[]>({ kind: "members" }, "tags");
        look.ok((await tags.get("all")) ?? []);
      } else await winner.setOnce("first", chance.id());
    },
  },
  always: {
    "no guard is passed": async ({ stock }) => ((await stock.get("all")) ?? 0) >= 0,
    "who was first stays first": async ({ winner }, history) => {
      const first = await winner.get("first");
      const [before] = ofKey<unknown, string>(history, "winner");
      if (first !== undefined && !before) history.invoke({ kind: "look" }, "winner").ok(first);
      return before === undefined || before.result === first;
    },
  },
  eventually: {
    "each addition counts once, and no member is lost": async ({ stock, tags }, history) => {
      history.invoke({ kind: "read" }, "stock").ok((await stock.get("all")) ?? 0);
      history.invoke({ kind: "members" }, "tags").ok((await tags.get("all")) ?? []);
      return allOf(
        checkLinearizable(ofKey<CounterCall, number>(history, "stock"), counter()),
        checkLinearizable(ofKey<SetCall, boolean | readonly Member[]>(history, "tags"), set()),
      );
    },
  },
});
