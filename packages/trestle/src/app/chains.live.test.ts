import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { z } from "zod";
import { aggregate, command } from "../events/index.ts";
import { records } from "../records/index.ts";
import { get, service } from "../service/index.ts";
import { app } from "./app.ts";
import { start } from "./start.ts";

const flags = records("flags", { key: z.string(), value: z.object({ raised: z.boolean() }) });
const stock = aggregate(
  "stock",
  { id: z.string(), events: { Taken: z.object({ quantity: z.int() }) }, initial: () => 1_000, evolve: { Taken: (left, { quantity }) => left - quantity } },
  { take: command(z.object({ quantity: z.int() }), (_left, taken, emit) => emit.Taken(taken)) },
);
const shop = service("shop", { uses: { flags, stock } }, { left: get("/left", {}, async (_request, { stock }) => ({ left: await stock.get("table") })) });

test("[F2] who decided on a staged state whose commit fell decides again, also where another commit gave the stream the same version", async () => {
  const directory = mkdtempSync(join(tmpdir(), "trestle-chains-"));
  await using node = await start(app("chains", [shop]), { store: `sqlite:${directory}/chains.db`, port: 0 });
  const flagsNow = node.open(flags);
  const seen: number[] = [];
  let second: Promise<unknown> | undefined;
  const takeSlowly = () =>
    node.commit({ stock }, async ({ stock }) => {
      seen.push(await stock.get("table"));
      await new Promise((resolve) => setTimeout(resolve, 50));
      return stock.take("table", { quantity: 1 });
    });

  // Two at once: the stream is hot now, and its staged states can be rested on.
  await Promise.all([0, 0].map((quantity) => node.open(stock).take("table", { quantity })));

  // The first run takes 5 and falls, because the flag it read was raised meanwhile; its second run takes 1 at the same version.
  let runs = 0;
  await node.commit({ flags, stock }, async ({ flags, stock }) => {
    runs += 1;
    await flags.get("f");
    if (runs === 1) await flagsNow.put("f", { raised: true });
    await stock.take("table", { quantity: runs === 1 ? 5 : 1 });
    if (runs === 1) setImmediate(() => (second = takeSlowly()));
  });
  while (second === undefined) await new Promise((resolve) => setImmediate(resolve));
  await second;
  const { left } = (await (await node.fetch(new Request(`${node.url}/left`))).json()) as { left: number };

  assert.ok(runs >= 2);
  assert.equal(seen[0], 995, "the second one saw the state that fell");
  assert.ok(seen.length > 1 && seen.slice(1).every((state) => state === 1_000 || state === 999), `and then one that stands: ${seen.join()}`);
  assert.equal(left, 998);
  rmSync(directory, { recursive: true, force: true });
});

test("[F2] an old state that was looked up is not taken for the newest: nobody chains on it", async () => {
  const directory = mkdtempSync(join(tmpdir(), "trestle-chains-"));
  const store = `sqlite:${directory}/chains.db` as const;
  {
    await using node = await start(app("chains", [shop]), { store, port: 0 });
    for (let taken = 0; taken < 3; taken++) await node.open(stock).take("table", { quantity: 1 });
  }
  await using node = await start(app("chains", [shop]), { store, port: 0 });
  const old = await node.open(stock).get("table", { asOf: { version: 1 } });

  const taken = await Promise.all(Array.from({ length: 8 }, () => node.commit({ stock }, ({ stock }) => stock.take("table", { quantity: 10 }))));
  const { left } = (await (await node.fetch(new Request(`${node.url}/left`))).json()) as { left: number };

  assert.equal(old, 999);
  assert.deepEqual(new Set(taken.map(({ state }) => state)), new Set([987, 977, 967, 957, 947, 937, 927, 917]), "each one's state is one that stood");
  assert.equal(left, 917);
  rmSync(directory, { recursive: true, force: true });
});
