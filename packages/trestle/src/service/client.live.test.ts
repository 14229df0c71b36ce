import { test } from "node:test";
import assert from "node:assert/strict";
import { createServer, request as httpRequest } from "node:http";
import type { AddressInfo } from "node:net";
import { z } from "zod";
import { app, start } from "../app/index.ts";
import { refuse } from "../component/index.ts";
import { Fault } from "../kernel/index.ts";
import { queue } from "../messaging/index.ts";
import { records } from "../records/index.ts";
import { created, get, noContent, post, service, sse } from "./index.ts";

const heard = records("heard", { key: z.string(), value: z.object({ text: z.string() }) });

function declared() {
  let made = 0;
  const billing = service(
    "billing",
    {},
    {
      invoice: post("/invoices/:who", { body: z.object({ orderId: z.string() }), idempotent: true, refuses: { "no-such-order": 404 } }, ({ params, body }) => {
        made += 1;
        return body.orderId === "none" ? refuse("no-such-order", { asked: body.orderId }) : created({ who: params.who, n: made });
      }),
      touch: post("/touch", {}, () => {
        made += 1;
        return noContent();
      }),
      read: get("/read", { query: z.object({ tags: z.array(z.string()) }) }, ({ query }) => query),
      count: sse("/count", {}, async function* () {
        yield { n: 1 };
        yield { n: 2 };
      }),
      breaks: get("/breaks", {}, () => {
        throw new Error("inside");
      }),
    },
  );
  const work = queue(
    "work",
    { input: z.object({ id: z.string(), orderId: z.string() }), uses: { billing, heard }, retry: { attempts: 10, from: "10ms", upTo: "20ms" } },
    async ({ id, orderId }, { billing, heard }) => {
      const invoice = await billing.invoice({ params: { who: "ä/b" }, body: { orderId } });
      const touch = await billing.touch();
      heard.put(id, { text: `${invoice.ok ? `${invoice.body.who} ${invoice.body.n}` : invoice.refused}, ${touch.ok ? touch.status : touch.refused}` });
    },
  );
  return { billing, work, made: () => made };
}

test("a service that another process runs is asked by URL, with the same answers", async () => {
  const there = declared();
  await using provider = await start(app("there", [there.billing]), { store: "memory:", log: () => undefined, port: 0 });
  const here = declared();
  await using node = await start(app("here", [here.work]), {
    store: "memory:",
    log: () => undefined,
    roles: ["worker"],
    services: { billing: provider.url as "http://x" },
  });
  await node.open(here.work).send({ id: "a", orderId: "1" });
  await node.open(here.work).send({ id: "b", orderId: "none" });
  await settled(async () => (await node.open(heard).list({ limit: 10 })).items.length === 2);
  assert.deepEqual(
    [(await node.open(heard).get("a"))?.text.replace(/\d+/, "n"), (await node.open(heard).get("b"))?.text],
    ["ä/b n, 204", "no-such-order, 204"],
  );
  assert.deepEqual([here.made(), there.made()], [0, 4], "it ran there");

  const client = node.open(here.billing);
  assert.deepEqual(await client.read({ query: { tags: ["a", "b&c"] } }), { ok: true, status: 200, body: { tags: ["a", "b&c"] } });
  const items: unknown[] = [];
  for await (const item of await client.count()) items.push(item);
  assert.deepEqual(items, [{ n: 1 }, { n: 2 }]);
  await assert.rejects(client.breaks(), (fault) => Fault.is(fault, "external.outcome-unknown"));
});

test("[MSG-12] an idempotent call whose answer was lost is asked again under its key, and happens once; any other is refused as outcome-unknown", async () => {
  const there = declared();
  await using provider = await start(app("there", [there.billing]), { store: "memory:", log: () => undefined });
  // A proxy that lets the first request of each path through and drops its answer.
  const dropped = new Set<string>();
  const keys = new Map<string, Set<string>>();
  const proxy = createServer((incoming, outgoing) => {
    const path = incoming.url ?? "";
    keys.set(path, (keys.get(path) ?? new Set()).add(String(incoming.headers["idempotency-key"])));
    const onward = httpRequest(
      `${provider.url}${path}`,
      { method: incoming.method ?? "GET", headers: { ...incoming.headers, host: new URL(provider.url).host } },
      (answer) => {
        if (!dropped.has(path)) {
          dropped.add(path);
          answer.resume();
          answer.on("end", () => incoming.socket.destroy());
        } else {
          outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
          answer.pipe(outgoing);
        }
      },
    );
    incoming.pipe(onward);
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  try {
    const here = declared();
    await using node = await start(app("here", [here.work]), {
      store: "memory:",
      log: () => undefined,
      roles: ["worker"],
      services: { billing: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}` },
    });
    await node.open(here.work).send({ id: "a", orderId: "1" });
    await settled(async () => (await node.open(heard).get("a")) !== undefined);
    assert.equal((await node.open(heard).get("a"))?.text, "ä/b 1, outcome-unknown");
    assert.equal(there.made(), 2, "one invoice, one touch");
    assert.equal(keys.get("/invoices/%C3%A4%2Fb")?.size, 1);
  } finally {
    proxy.closeAllConnections();
    proxy.close();
  }
});

async function settled(done: () => Promise<boolean>): Promise<void> {
  for (let looks = 0; looks < 800; looks++) {
    if (await done()) return;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  assert.fail("it did not come to an end");
}
