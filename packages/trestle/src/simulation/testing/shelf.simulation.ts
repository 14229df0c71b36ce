/** Retention of a topic: what it removes has been archived and seen by its followers, and numbers go on. */
import { z } from "zod";
import { app, post, records, service, subscription, topic } from "../../index.ts";
import { scenario, sometimes } from "../index.ts";

const names = ["red", "blue"] as const;
const Name = z.enum(names);
const keepLast = 2;
const Move = z.object({ name: Name, n: z.int() });

const moves = topic("moves", {
  events: { Moved: Move },
  key: ({ data }) => data.name,
  keepLast,
  archive: async (events) => {
    // Of another house: what it answers it has, and what comes again it has already.
    const answer = await fetch("http://shelf.app/archived", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ moves: events.map(({ data }) => data) }),
    });
    if (!answer.ok) throw new Error(`the shelf answered ${answer.status}`);
  },
});
const archived = records("archived", { key: z.string(), value: Move });
const counts = records("counts", { key: Name, value: z.int() });
const heard = records("heard", { key: Name, value: z.array(z.int()) });

const hearing = subscription(
  "hearing",
  { to: moves, uses: { heard }, retry: { attempts: 50, from: "20ms", upTo: "500ms" } },
  { Moved: async ({ data: { name, n } }, { heard }) => heard.put(name, [...((await heard.get(name)) ?? []), n]) },
);
const board = service(
  "board",
  { uses: { moves, counts } },
  {
    move: post("/moves", { body: z.object({ name: Name }), idempotent: true }, async ({ body: { name } }, { moves, counts }) => {
      const n = ((await counts.get(name)) ?? 0) + 1;
      counts.put(name, n);
      moves.publish.Moved({ name, n });
      return { n };
    }),
  },
);
const shelf = service(
  "shelf",
  { uses: { archived } },
  {
    keep: post("/archived", { body: z.object({ moves: z.array(Move) }) }, ({ body: { moves } }, { archived }) => {
      for (const move of moves) archived.put(`${move.name} ${move.n}`, move);
      return {};
    }),
  },
);

export const clearingUp = scenario(app("board", [board, shelf, hearing]), {
  uses: { board, moves, archived, counts, heard },
  for: "15s",
  clients: { count: 4, times: 5, each: async ({ board }, chance) => void (await board.move({ body: { name: chance.pick(names) } })) },
  always: {
    "what is not in the log is archived, and numbers go on": async ({ moves, archived, counts }) => {
      const gone = (await archived.list({ limit: 1_000 })).items;
      sometimes("events are removed", gone.length > 0);
      for (const name of names) {
        const count = (await counts.get(name)) ?? 0;
        const there = new Set(gone.filter((move) => move.name === name).map(({ n }) => n));
        for await (const { version, data } of moves.history({ key: name })) {
          if (version !== data.n) return false;
          there.add(data.n);
        }
        if (there.size !== count || (await moves.version(name)) !== count) return false;
      }
      return true;
    },
    "whoever follows hears each once, in order": async ({ heard }) => {
      for (const name of names) if (!((await heard.get(name)) ?? []).every((n, at) => n === at + 1)) return false;
      return true;
    },
  },
  eventually: {
    "only the last are left, and all have been heard": async ({ moves, counts, heard }) => {
      for (const name of names) {
        let left = 0;
        for await (const _ of moves.history({ key: name })) left++;
        if (left > keepLast || ((await heard.get(name)) ?? []).length !== ((await counts.get(name)) ?? 0)) return false;
      }
      return true;
    },
  },
});
