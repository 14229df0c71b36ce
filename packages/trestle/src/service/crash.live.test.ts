/** The process is killed between "charge the card" and "store the answer". This file is also the program that is killed. */
import { test } from "node:test";
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { app, start } from "../app/index.ts";
import { external, mutation } from "../external/index.ts";
import { records } from "../records/index.ts";
import { setting } from "../setting/index.ts";
import { created, get, post, service } from "./index.ts";

const Order = z.object({ sku: z.string(), cents: z.int() });
const orders = records("orders", { key: z.string(), value: Order.extend({ paymentId: z.string().optional() }) });
const payments = external(
  "payments",
  { url: setting("PAYMENTS_URL"), timeout: "800ms", retry: false, breaker: false },
  {
    // No key of our own: it has to come from the invocation, and be the same after a crash.
    charge: mutation({ input: z.object({ cents: z.int() }), returns: z.object({ paymentId: z.string() }) }, (charge, wire) => wire.post("/charges", charge)),
  },
);
const shop = service(
  "shop",
  { uses: { orders, payments }, timeout: "1s" },
  {
    place: post("/orders", { body: Order, idempotent: true }, async ({ body }, { orders, payments }, { newId }) => {
      const id = newId();
      orders.put(id, body);
      const { paymentId } = await payments.charge({ cents: body.cents });
      orders.put(id, { ...body, paymentId });
      return created({ id, paymentId });
    }),
    list: get("/orders", {}, async (_request, { orders }) => ({ orders: (await orders.list({ limit: 100 })).items })),
  },
);

if (process.argv[2] === "run") {
  const node = await start(app("shop", [shop]), {
    store: `sqlite:${process.argv[3]}`,
    settings: { PAYMENTS_URL: process.argv[4] as string },
    host: "127.0.0.1",
    port: 0,
  });
  process.send?.(node.url);
} else {
  test(
    "[F16] [MSG-12] kill -9 between the charge and the answer: one charge, one order, one answer, with and without a caller who asks again",
    { timeout: 120_000 },
    crashes,
  );
}

/** Where the shop is killed: when the provider hears of the charge, when it is in its books, when it has answered, or a moment later. */
const moments = ["asked", "booked", "answered", "a moment later"] as const;

async function crashes(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "trestle-crash-"));
  const books = new Map<string, { readonly paymentId: string; readonly cents: number }>();
  const keysOf = new Map<number, Set<string>>();
  let moment: (typeof moments)[number] | undefined;
  let shopProcess: ChildProcess | undefined;
  let n = 0;
  /** Only where the order of this turn is concerned: those left behind are finished meanwhile. */
  const kill = (at: (typeof moments)[number], cents: number): boolean => {
    if (moment !== at || cents !== n) return false;
    moment = undefined;
    shopProcess?.kill("SIGKILL");
    return true;
  };
  const provider = createServer((request, response) => {
    let text = "";
    request.on("data", (chunk: Buffer) => (text += chunk.toString()));
    request.on("end", () => {
      const key = String(request.headers["idempotency-key"]);
      const { cents } = JSON.parse(text) as { readonly cents: number };
      keysOf.set(cents, (keysOf.get(cents) ?? new Set()).add(key));
      if (kill("asked", cents)) return;
      const booked = books.get(key) ?? { paymentId: `p${books.size + 1}`, cents };
      books.set(key, booked);
      if (kill("booked", cents)) return;
      response.writeHead(201, { "content-type": "application/json" }).end(JSON.stringify({ paymentId: booked.paymentId }));
      setImmediate(() => kill("answered", cents));
      setTimeout(() => kill("a moment later", cents), 2);
    });
  });
  await new Promise<void>((resolve) => provider.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(provider.address() as AddressInfo).port}`;
  const run = async (): Promise<string> => {
    shopProcess = spawn(process.execPath, [import.meta.filename, "run", join(folder, "shop.db"), url], { stdio: ["ignore", "ignore", "ignore", "ipc"] });
    const [shopUrl] = (await once(shopProcess, "message")) as [string];
    return shopUrl;
  };
  const place = (shopUrl: string, n: number) =>
    fetch(`${shopUrl}/orders`, {
      method: "POST",
      headers: { "content-type": "application/json", "idempotency-key": `key-${n}` },
      body: JSON.stringify({ sku: "A", cents: n }),
    });

  try {
    let shopUrl = await run();
    /** Asks, is killed there, and comes back. Answers what the caller heard, if anything. */
    const killedAt = async (at: (typeof moments)[number]): Promise<string | undefined> => {
      n += 1;
      moment = at;
      const heard = await place(shopUrl, n).then(
        async (response) => (response.status === 201 ? await response.text() : undefined),
        () => undefined,
      );
      if (shopProcess?.exitCode === null && shopProcess.signalCode === null) await once(shopProcess, "exit");
      shopUrl = await run();
      return heard;
    };
    const settledAs = async (asked: number, at: string, heard: string | undefined, byItself: boolean): Promise<void> => {
      const answer = await answered(() => place(shopUrl, asked));
      if (byItself) assert.equal(answer.headers.get("idempotency-replayed"), "true", `${at}: finished without a caller`);
      const text = await answer.text();
      if (heard !== undefined) assert.equal(text, heard);
      const repeated = await place(shopUrl, asked);
      assert.deepEqual([repeated.status, repeated.headers.get("idempotency-replayed"), await repeated.text()], [201, "true", text], at);
      assert.equal(keysOf.get(asked)?.size, 1, `${at}: one key for the provider`);
      assert.equal([...books.values()].filter(({ cents }) => cents === asked).length, 1, `${at}: one charge`);
    };
    for (const at of moments) {
      const heard = await killedAt(at);
      await settledAs(n, at, heard, false);
    }
    const left: { readonly asked: number; readonly at: string; readonly heard: string | undefined }[] = [];
    for (const at of moments) {
      const heard = await killedAt(at);
      left.push({ asked: n, at, heard });
    }
    await unfinishedGone(shopUrl); // nobody asks: whoever finishes them now is the job
    for (const { asked, at, heard } of left) await settledAs(asked, at, heard, true);
    const { orders: all } = (await (await fetch(`${shopUrl}/orders`)).json()) as {
      readonly orders: readonly { readonly cents: number; readonly paymentId?: string }[];
    };
    assert.deepEqual(
      all.map(({ cents }) => cents).sort((a, b) => a - b),
      [1, 2, 3, 4, 5, 6, 7, 8],
      "each order exactly once",
    );
    assert.ok(all.every(({ cents, paymentId }) => [...books.values()].some((booked) => booked.cents === cents && booked.paymentId === paymentId)));
  } finally {
    shopProcess?.kill("SIGKILL");
    provider.closeAllConnections();
    provider.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Until no request waits to be finished. */
async function unfinishedGone(shopUrl: string): Promise<void> {
  for (let looks = 0; looks < 300; looks++) {
    const response = await fetch(`${shopUrl}/_trestle/queues/~requests-shop/jobs`);
    assert.equal(response.status, 200, await response.clone().text());
    if (((await response.json()) as { readonly jobs: readonly unknown[] }).jobs.length === 0) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.fail("requests were left unfinished for 30 s");
}

/** Asks until there is an answer: a request that is in flight, or that this process has not got to yet, is asked again. */
async function answered(ask: () => Promise<Response>): Promise<Response> {
  for (let tries = 0; tries < 100; tries++) {
    const response = await ask();
    if (response.status === 201) return response;
    assert.ok([409, 503, 504].includes(response.status), `${response.status} ${await response.clone().text()}`);
    await response.body?.cancel();
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return assert.fail("no answer in 10 s");
}
