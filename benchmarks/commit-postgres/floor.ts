/** The batch function with arrays that were built before, as many commits in each as there are callers, and the flush behind it: what is left when the client costs nothing. */
import { openPostgres } from "@trestle/postgres";
import { postgres } from "@trestle/testing";
import pg from "pg";
import { batchCall, encodeBatch } from "../../packages/postgres/src/batch.ts";
import type { Variant } from "../harness/benchmark.ts";
import { percentiles, warmUpMs } from "../harness/callers.ts";
import { order } from "./work.ts";

/** More than are applied in the time there is. */
const commitsPerSecondMax = 40_000;

const floor: Variant = async ({ load, seconds }) => {
  await using server = await postgres({ settings: { shared_buffers: "256MB" } });
  await (await openPostgres({ url: server.url })).close(); // makes the schema
  const client = new pg.Client({ connectionString: server.url });
  await client.connect();
  const totalMs = warmUpMs(seconds) + seconds * 1_000;
  const batches = Array.from({ length: Math.ceil((Math.min(commitsPerSecondMax, 4_000 * load) * totalMs) / 1_000 / load) }, () => [
    ...encodeBatch(Array.from({ length: load }, order), { nowMs: null, inside: false, inDoubt: () => false }).parameters,
  ]);
  const text = batchCall("trestle");
  const times: number[] = [];
  const fromMs = performance.now() + warmUpMs(seconds);
  const untilMs = fromMs + seconds * 1_000;
  for (const values of batches) {
    const askedMs = performance.now();
    await client.query({ name: "commit", text, values });
    await client.query({ name: "flush", text: "select trestle.flush_v1()" });
    const answeredMs = performance.now();
    if (answeredMs > untilMs) break;
    if (askedMs >= fromMs) times.push(answeredMs - askedMs);
  }
  if (performance.now() < untilMs) throw new Error("too few batches were built");
  await client.end();
  return { opsPerSec: (times.length * load) / seconds, ...percentiles(times) };
};
export default floor;
