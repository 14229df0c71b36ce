/**
 * Catching up with a long log: `npm run bench -- catch-up`. A million events of 200 B, one in a thousand of another type, in one file.
 *
 *   follow     a reader follows the topic from its start, every event validated
 *   sparse     a reader asks for the rare type only: the store leaves out the rest
 *   project    a following projection folds the rare events into rows, and its position passes all others
 *
 * Prints events per second, and resident memory: how far it rose above where it stood after the first tenth. With `--check` it exits with 1 when
 * memory rose by more than 64 MB, or when the sparse reader took more than a fifth of the time of the whole one.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { app, projection, start, topic, type Node } from "trestle";
import { systemClock, systemRandom, uuidv7Ids } from "trestle/kernel";
import { z } from "zod";
import { openSqlite } from "../../packages/trestle/src/sqlite/index.ts";

const { values } = parseArgs({ options: { events: { type: "string", default: "1000000" }, json: { type: "boolean" }, check: { type: "boolean" } } });
const events = Number(values.events);
const everyRare = 1_000;
const rare = events / everyRare;
const ids = uuidv7Ids(systemClock, systemRandom);
const ticks = topic("ticks", {
  events: { Tick: z.object({ n: z.int(), note: z.string() }), Rare: z.object({ n: z.int(), note: z.string() }) },
  key: ({ data }) => String(data.n % 100),
});
const rows = projection(
  "rows",
  { from: ticks, row: z.object({ n: z.int() }) },
  { creates: { Rare: ({ n }) => ({ n }) }, updates: { Rare: (_row, { n }) => ({ n }) } },
);

async function fill(path: string): Promise<void> {
  const store = await openSqlite({ path, durability: "normal" });
  const note = "x".repeat(160);
  for (let from = 0; from < events; from += 50_000) {
    await Promise.all(
      Array.from({ length: 100 }, (_, hundred) =>
        store.commit({
          id: ids.next(),
          expects: [],
          writes: Array.from({ length: 500 }, (_, i) => {
            const n = from + hundred * 500 + i;
            return {
              kind: "append" as const,
              stream: `ticks//${n % 100}`,
              events: [{ id: ids.next(), type: n % everyRare === 0 ? "Rare" : "Tick", data: Buffer.from(JSON.stringify({ n, note })) }],
            };
          }),
        }),
      ),
    );
    process.stderr.write(`\rfilling: ${from + 50_000} of ${events}`);
  }
  process.stderr.write("\n");
  await store.close();
}

interface Result {
  readonly what: string;
  readonly seconds: number;
  readonly eventsPerSec: number;
  readonly roseMb: number;
}

async function measured(what: string, run: (progress: (part: number) => void) => Promise<void>): Promise<Result> {
  globalThis.gc?.();
  const fromMs = performance.now();
  let [base, most] = [0, 0];
  await run((part) => {
    const { rss } = process.memoryUsage();
    if (part <= 0.1) base = Math.max(base, rss);
    else most = Math.max(most, rss);
  });
  const seconds = (performance.now() - fromMs) / 1_000;
  return { what, seconds, eventsPerSec: Math.round(events / seconds), roseMb: Math.max(0, Math.round((most - base) / 1_048_576)) };
}

async function follow(node: Node, types: readonly "Rare"[] | undefined, wanted: number, progress: (part: number) => void): Promise<void> {
  let read = 0;
  for await (const _ of node.open(ticks).follow({ from: "start", ...(types ? { types } : {}) })) {
    read += 1;
    if (read % Math.max(1, wanted / 100) === 0) progress(read / wanted);
    if (read === wanted) return;
  }
}

const home = mkdtempSync(join(tmpdir(), "trestle-catch-up-"));
const path = join(home, "store.db");
try {
  await fill(path);
  const results: Result[] = [];
  {
    await using node = await start(app("catch-up", [ticks]), { store: `sqlite:${path}`, roles: [], log: () => undefined });
    results.push(await measured("follow", (progress) => follow(node, undefined, events, progress)));
    results.push(await measured("sparse", (progress) => follow(node, ["Rare"], rare, progress)));
  }
  results.push(
    await measured("project", async (progress) => {
      await using node = await start(app("catch-up", [rows]), { store: `sqlite:${path}`, log: () => undefined });
      const began = performance.now();
      const looking = setInterval(() => progress(performance.now() - began < 50 ? 0 : 1), 20);
      await node.idle();
      clearInterval(looking);
      const { items } = await node.open(rows).list({ limit: 200 });
      if (items.length === 0) throw new Error("no row was projected");
    }),
  );
  const [whole, sparse] = results;
  const failed = [
    ...results.filter(({ roseMb }) => roseMb > 64).map(({ what, roseMb }) => `${what}: memory rose by ${roseMb} MB`),
    ...(sparse && whole && sparse.seconds * 5 > whole.seconds ? [`sparse took ${sparse.seconds.toFixed(2)} s, follow ${whole.seconds.toFixed(2)} s`] : []),
  ];
  if (values.json) console.log(JSON.stringify({ subject: "catch-up", events, results, failed }));
  else {
    for (const { what, seconds, eventsPerSec, roseMb } of results)
      console.log(`${what.padEnd(8)} ${seconds.toFixed(2).padStart(8)} s ${String(eventsPerSec).padStart(10)} events/s   memory +${roseMb} MB`);
    for (const line of failed) console.log(`missed: ${line}`);
  }
  if (values.check && failed.length > 0) process.exitCode = 1;
} finally {
  rmSync(home, { recursive: true });
}
