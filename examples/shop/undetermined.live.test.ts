/** A provider that answers nobody for longer than a job tries: what people see then, and what they do. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { shopProcesses, type ShopProcesses } from "./testing/shop-processes.ts";

const cli = fileURLToPath(new URL("../../packages/trestle/src/cli/trestle.ts", import.meta.url));
const json = async <T>(url: string, init?: RequestInit): Promise<T> => (await (await fetch(url, init)).json()) as T;

async function trestle(shop: ShopProcesses, ...args: readonly string[]): Promise<unknown> {
  const { stdout } = await promisify(execFile)(process.execPath, ["--disable-warning=ExperimentalWarning", cli, ...args, "--url", shop.url, "--json"]);
  return JSON.parse(stdout);
}

async function until<T>(seconds: number, look: () => Promise<T>, enough: (seen: T) => boolean): Promise<T> {
  for (const untilMs = performance.now() + seconds * 1_000; ; await new Promise((resolve) => setTimeout(resolve, 200))) {
    const seen = await look();
    if (enough(seen) || performance.now() > untilMs) return seen;
  }
}

async function undeterminedIn(shop: ShopProcesses): Promise<number> {
  const metrics = await (await fetch(`${shop.url}/_trestle/metrics`)).text();
  return Number(/^trestle_queue_jobs\{queue="fulfilment",state="undetermined"\} (\d+)$/m.exec(metrics)?.[1]);
}

test(
  "[F16] when attempts run out while nobody knows whether a charge was made, the job says so everywhere and waits; put back, every order is paid once",
  { timeout: 240_000 },
  async (t) => {
    await using shop = await shopProcesses({ script: new URL("./testing/hasty.ts", import.meta.url) });
    await shop.start();
    await shop.stub("payments", { hang: true });
    const before = await json<{ available: number }>(`${shop.url}/stock/VAS-007`);
    const ids: string[] = [];
    for (let i = 0; i < 8; i++) {
      const { id } = await json<{ id: string }>(`${shop.url}/orders`, {
        method: "POST",
        headers: { "content-type": "application/json", "idempotency-key": `hang-${i}` },
        body: JSON.stringify({ customer: `Ada ${i}`, email: `ada${i}@example.com`, items: [{ sku: "VAS-007", quantity: 1 }] }),
      });
      ids.push(id);
    }
    const orders = async () => Promise.all(ids.map(async (id) => (await json<{ status: string }>(`${shop.url}/orders/${id}`)).status));

    const counted = await until(
      150,
      () => undeterminedIn(shop),
      (jobs) => jobs === ids.length,
    );
    const page = await json<{ jobs: { id: string; state: string; error?: string }[] }>(`${shop.url}/_trestle/queues/fulfilment/jobs?state=undetermined`);
    const listed = (await trestle(shop, "queue", "ls", "fulfilment", "--state", "undetermined")) as { jobs: { id: string; error?: string }[] };
    const held = { orders: await orders(), stock: (await json<{ available: number }>(`${shop.url}/stock/VAS-007`)).available };

    assert.equal(counted, ids.length, "the metric counts them");
    assert.deepEqual([page.jobs.length, listed.jobs.length], [ids.length, ids.length]);
    for (const { error } of [...page.jobs, ...listed.jobs]) assert.match(error ?? "", /^external\.(outcome-unknown|unreachable)/);
    assert.deepEqual(held, { orders: ids.map(() => "placed"), stock: before.available - ids.length }, "nothing was compensated blindly");

    await shop.stub("payments", {});
    const redriven = (await trestle(shop, "queue", "redrive", "fulfilment", "--state", "undetermined")) as { jobs: number };
    const after = await until(60, orders, (all) => all.every((status) => status === "shipped"));
    const { items: charges } = await json<{ items: { orderId: string; status: string }[] }>(`${shop.paymentsUrl}/ledger`);

    t.diagnostic(`${charges.length} charges for ${ids.length} orders`);
    assert.equal(redriven.jobs, ids.length);
    assert.deepEqual(
      after,
      ids.map(() => "shipped"),
    );
    assert.deepEqual(
      ids.map((id) => charges.filter(({ orderId, status }) => orderId === id && status === "captured").length),
      ids.map(() => 1),
    );
    assert.equal(await undeterminedIn(shop), 0);
  },
);
