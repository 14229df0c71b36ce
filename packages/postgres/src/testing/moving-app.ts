/** An app whose store is moved under it: `moving-app.ts <store url>`. Tells its parent its URL; ends when its parent does. */
import { app, created, post, queue, records, service, start } from "trestle";
import { z } from "zod";

export const notes = records("notes", { key: z.string(), value: z.object({ key: z.string() }) });
export const effects = records("effects", { key: z.string(), value: z.number() });
const work = queue("work", { input: z.object({ key: z.string() }), uses: { effects } }, ({ key }, { effects }) => effects.add(key, 1));
export const board = service(
  "board",
  { uses: { notes, effects, work } },
  {
    add: post("/notes", { body: z.object({ key: z.string() }), idempotent: true }, ({ body }, { notes, work }, { newId }) => {
      notes.put(newId(), { key: body.key });
      work.send({ key: body.key });
      return created({ kept: body.key });
    }),
  },
);
export const moving = app("moving", [board]);

if (process.send) {
  const node = await start(moving, { store: process.argv[2] as "memory:", port: 0, host: "127.0.0.1", log: (line) => void process.stderr.write(`${line}\n`) });
  process.on("disconnect", () => process.exit(0));
  process.send(node.url);
}
