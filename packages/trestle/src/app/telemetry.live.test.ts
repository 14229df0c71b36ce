/** What a node tells about itself, against what was really asked of it. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, test } from "node:test";
import { z } from "zod";
import { app, external, get, mutation, post, queue, refuse, service, start } from "../index.ts";
import { durationBucketsSeconds } from "../kernel/index.ts";
import { registerProvider, unregisterProvider } from "./testing.ts";

after(unregisterProvider);
const quiet = { store: "memory:", port: 0, log: () => undefined } as const;

const desk = service(
  "desk",
  {},
  {
    answer: get("/answer", { query: z.object({ how: z.enum(["fast", "slow", "no", "broken"]) }), refuses: { no: 409 } }, async ({ query }) => {
      if (query.how === "slow") await new Promise((resolve) => setTimeout(resolve, 150));
      if (query.how === "no") return refuse("no");
      if (query.how === "broken") throw new Error("broken");
      return { how: query.how };
    }),
  },
);

test("[OBS-04] rate, errors and duration of a route are what the one who asked counted himself", { timeout: 60_000 }, async () => {
  await using node = await start(app("counted", [desk]), quiet);
  const ways = Array.from({ length: 400 }, (_, i) => (i % 10 === 0 ? "slow" : i % 7 === 0 ? "no" : i % 11 === 0 ? "broken" : "fast"));
  const ledger = { ok: 0, refused: 0, fault: 0 };
  const tookSeconds: number[] = [];
  const work = [...ways];
  const caller = async () => {
    for (let how = work.pop(); how !== undefined; how = work.pop()) {
      const fromMs = performance.now();
      const { status } = await fetch(`${node.url}/answer?how=${how}`).then(async (answer) => (await answer.arrayBuffer(), answer));
      tookSeconds.push((performance.now() - fromMs) / 1_000);
      ledger[status === 200 ? "ok" : status === 409 ? "refused" : "fault"] += 1;
    }
  };
  await Promise.all(Array.from({ length: 8 }, caller));

  const page = await (await fetch(`${node.url}/_trestle/metrics`)).text();
  const counted = (end: string) =>
    Number(new RegExp(`^trestle_invocations_total\\{component="desk",end="${end}",operation="answer"\\} (\\d+)$`, "m").exec(page)?.[1]);
  const buckets = [...page.matchAll(/^trestle_invocation_duration_seconds_bucket\{component="desk",operation="answer",le="([^"]+)"\} (\d+)$/gm)].map(
    ([, le, count]) => [Number(le?.replace("+Inf", "Infinity")), Number(count)] as const,
  );
  const bucketOf = (seconds: number) => durationBucketsSeconds.findIndex((bound) => seconds <= bound);
  const servedP99 = buckets.find(([, count]) => count >= 0.99 * 400)?.[0] ?? NaN;
  const seenP99 = tookSeconds.sort((a, b) => a - b)[Math.ceil(0.99 * 400) - 1] ?? NaN;

  assert.deepEqual({ ok: counted("ok"), refused: counted("refused"), fault: counted("fault") }, ledger);
  assert.equal(ledger.ok + ledger.refused + ledger.fault, 400);
  assert.equal(buckets.at(-1)?.[1], 400);
  assert.ok(Math.abs(bucketOf(servedP99) - bucketOf(seenP99)) <= 1, `served ${servedP99} s, seen ${seenP99} s`);
});

test("[OBS-03] a request, the job it sends, and the call that job makes are one tree without an orphan", { timeout: 30_000 }, async () => {
  const heard: (string | undefined)[] = [];
  const outside = createServer((request, response) => {
    heard.push(request.headers["traceparent"] as string | undefined);
    request.resume().on("end", () => response.setHeader("content-type", "application/json").end("{}"));
  });
  await new Promise<void>((resolve) => outside.listen(0, "localhost", resolve));
  const recorded = registerProvider();
  const bank = external(
    "bank",
    { url: `http://localhost:${(outside.address() as AddressInfo).port}` },
    {
      charge: mutation({ input: z.object({ id: z.string() }), returns: z.object({}), key: ({ id }) => id, outcome: "may-repeat" }, (charge, wire) =>
        wire.post("/charges", charge),
      ),
    },
  );
  const charges = queue("charges", { input: z.object({ id: z.string() }), uses: { bank } }, async ({ id }, { bank }) => void (await bank.charge({ id })));
  const till = service(
    "till",
    { uses: { charges } },
    {
      pay: post("/pay", { body: z.object({ id: z.string() }) }, ({ body }, { charges }) => {
        charges.send(body);
        return { paid: body.id };
      }),
      ping: get("/ping", {}, () => ({})),
    },
  );
  await using node = await start(app("traced", [till]), quiet);
  await fetch(`${node.url}/ping`); // the first span binds the API
  await new Promise((resolve) => setTimeout(resolve, 50));
  recorded.length = 0;

  const traceId = "0af7651916cd43dd8448eb211c80319c";
  await fetch(`${node.url}/pay`, {
    method: "POST",
    headers: { "content-type": "application/json", traceparent: `00-${traceId}-b7ad6b7169203331-01` },
    body: JSON.stringify({ id: "c1" }),
  });
  await node.idle();
  outside.close();

  const known = new Set(["b7ad6b7169203331", ...recorded.map(({ context }) => context.spanId)]);
  assert.deepEqual(
    recorded.map(({ name }) => name),
    ["till pay", "charges", "bank charge"],
  );
  assert.ok(
    recorded.every(({ context, parent }) => context.traceId === traceId && known.has(parent?.spanId ?? "")),
    JSON.stringify(recorded),
  );
  assert.deepEqual(
    recorded.map(({ parent }) => parent?.spanId),
    ["b7ad6b7169203331", recorded[0]?.context.spanId, recorded[1]?.context.spanId],
  );
  assert.deepEqual(heard, [`00-${traceId}-${recorded[2]?.context.spanId}-01`]);
  assert.ok(recorded.every(({ ended }) => ended));
});
