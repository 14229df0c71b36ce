/** Messages that stand for others: under `unique` and `debounce` some are dropped, and never the last word. */
import { z } from "zod";
import { app, post, queue, records, service } from "../../index.ts";
import { scenario, sometimes } from "../index.ts";

const names = ["page", "index"] as const;
const Name = z.enum(names);
const Numbered = z.object({ name: Name, n: z.int() });
const edits = records("edits", { key: Name, value: Numbered });
const built = records("built", { key: Name, value: z.int() });
const saved = records("saved", { key: Name, value: z.array(z.int()) });
const retry = { attempts: 50, from: "20ms", upTo: "500ms" } as const;

const building = queue("building", { input: z.object({ name: Name }), uses: { edits, built }, retry }, async ({ name }, { edits, built }) => {
  if (Math.random() < 0.15) throw new Error("it does not compile");
  // A list is no precondition: that no edit is missed rests on the message that may be sent while this one runs.
  const { items } = await edits.list({ limit: 10 });
  await new Promise((resolve) => setTimeout(resolve, Math.random() * 200));
  const n = items.find((edit) => edit.name === name)?.n ?? 0;
  if (n > ((await built.get(name)) ?? 0)) built.put(name, n);
});
const saving = queue("saving", { input: Numbered, key: ({ name }) => name, uses: { saved }, retry }, async ({ name, n }, { saved }) => {
  if (Math.random() < 0.15) throw new Error("the disk is away");
  saved.put(name, [...((await saved.get(name)) ?? []), n]);
});
const editor = service(
  "editor",
  { uses: { edits, building, saving } },
  {
    edit: post("/edits", { body: z.object({ name: Name }), idempotent: true }, async ({ body: { name } }, { edits, building, saving }) => {
      const n = ((await edits.get(name))?.n ?? 0) + 1;
      edits.put(name, { name, n });
      building.send({ name }, { unique: name });
      saving.send({ name, n }, { debounce: { key: name, wait: "300ms", atMost: "1s" } });
      return {};
    }),
  },
);

export const keepingUp = scenario(app("editor", [editor, building, saving]), {
  uses: { editor, edits, built, saved, saving },
  for: "10s",
  clients: {
    count: 3,
    times: 2,
    each: async ({ editor }, chance) => {
      const name = chance.pick(names);
      for (let edits = chance.integer(1, 4); edits > 0; edits--) await editor.edit({ body: { name } });
    },
  },
  always: {
    "what is saved does not go back": async ({ saved }) => {
      for (const name of names) {
        const numbers = (await saved.get(name)) ?? [];
        sometimes(
          "an edit is passed over",
          numbers.some((n, at) => n > (numbers[at - 1] ?? 0) + 1),
        );
        if (!numbers.every((n, at) => n > (numbers[at - 1] ?? 0))) return false;
      }
      return true;
    },
  },
  eventually: {
    "the last edit is built and saved": async ({ edits, built, saved }) => {
      for (const name of names) {
        const n = (await edits.get(name))?.n ?? 0;
        if (((await built.get(name)) ?? 0) !== n || ((await saved.get(name)) ?? []).at(-1) !== (n === 0 ? undefined : n)) return false;
      }
      return true;
    },
  },
});
