/** RES-06, by the policies that the shop ships: payments and mail are killed under load, one after the other, and come back. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { guardedDirectory } from "@trestle/testing";
import { sleep, systemClock } from "trestle/kernel";
import { catalogue } from "./catalogue.ts";
import { shopProcesses } from "./testing/shop-processes.ts";

const shipped = fileURLToPath(new URL("./degradation-policies.yaml", import.meta.url));
/** Without the trigger that looks at the clock: how long an answer takes is for a machine that is busy. */
const policies = readFileSync(shipped, "utf8").replace(/^ *- \{ burn: latency.*\n/m, "");
const enough = 60;
/** One product alone is sold out on a quick machine, and what is ordered after that is cancelled. */
const payable = catalogue.filter(({ priceCents }) => priceCents % 100 !== 13);

interface Answer {
  readonly route: string;
  readonly status: number;
  readonly rung: string;
  readonly body: { readonly id?: string; readonly status?: string; readonly payment?: string };
}

/** Customers who look at what there is, order some of it and read their mail, until they are told to stop. */
function customers(url: string, told: (answer: Answer) => void) {
  let stopped = false;
  const ask = async (route: string, path: string, init: RequestInit = {}) => {
    const response = await fetch(`${url}${path}`, init);
    const body = (await response.json()) as Answer["body"];
    told({ route, status: response.status, rung: response.headers.get("trestle-degraded") ?? "full", body });
    await sleep(systemClock, 10);
  };
  const customer = async (n: number) => {
    for (let nth = 0; !stopped; nth++) {
      const { sku } = payable[nth % payable.length]!;
      await ask("shop.listProducts", "/products?limit=5");
      const order = { customer: "Ada", email: "ada@example.com", items: [{ sku, quantity: 1 }] };
      const headers = { "content-type": "application/json", "idempotency-key": `customer-${n}-order-${nth}` };
      await ask("shop.placeOrder", "/orders", { method: "POST", headers, body: JSON.stringify(order) });
      await ask("shop.readMailbox", "/mailbox?to=ada@example.com");
    }
  };
  const running = Promise.all([1, 2, 3, 4].map(customer));
  running.catch(() => (stopped = true)); // of a shop that is gone with a test that failed
  return { stop: () => ((stopped = true), running) };
}

/** Waits for something that comes; how long it may take is for a machine that is busy. */
async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const endMs = systemClock.monotonicMs() + 180_000;
  while (!(await holds())) {
    assert.ok(systemClock.monotonicMs() < endMs, `not within three minutes: ${what}`);
    await sleep(systemClock, 50);
  }
}

test("[RES-06] payments and mail are killed in turn under load: 99 % of the answers of every route are good, those below full are marked, somebody is told, and all is whole again unaided; a broken file changes nothing", async (t) => {
  const directory = guardedDirectory("shop-policies");
  t.after(() => directory.remove());
  assert.doesNotMatch(policies, /slowerThan/);
  const file = join(directory.path, "degradation-policies.yaml");
  writeFileSync(file, policies);
  await using shop = await shopProcesses({ env: { TRESTLE_DEGRADATION: file } });
  await shop.start();
  const answers: Answer[] = [];
  const load = customers(shop.url, (answer) => answers.push(answer));
  const count = (from: number, route: string, rung: string) =>
    answers.slice(from).filter((answer) => answer.route === route && answer.rung === rung && answer.status < 300).length;
  const level = async (route: string) => {
    const line = new RegExp(`^trestle_degradation_level\\{[^}]*operation="${route.split(".")[1]}"[^}]*\\} (.+)$`, "m");
    return Number(line.exec(await (await fetch(`${shop.url}/_trestle/metrics`)).text())?.[1] ?? 0);
  };
  await until("all routes are warm", () => ["shop.placeOrder", "shop.readMailbox"].every((route) => count(0, route, "full") > enough));

  writeFileSync(file, policies.replaceAll("breaker: payments", "breaker: paymints"));
  await until("the broken file is refused", () => shop.output().includes("a version of the policies is refused, the last good one stays"));

  for (const [system, route, rung] of [
    ["payments", "shop.placeOrder", "partial"],
    ["mail", "shop.readMailbox", "stale"],
  ] as const) {
    const killed = answers.length;
    await shop.killSystem(system);
    await until(`${route} answers with ${rung}`, () => count(killed, route, rung) > enough);
    // A request that fails falls back by itself, before the checks or the breaker have found out for all of them.
    await until("what is alerted on says so", async () => (await level(route)) > 0);
    const others = answers.slice(killed).filter((answer) => answer.route !== route && answer.rung !== "full");
    assert.deepEqual(others, [], "no other route needs it");
    await shop.startSystem(system);
    const healed = answers.length;
    await until(`${route} is whole`, async () => (await level(route)) === 0 && answers.slice(-30).every((answer) => answer.rung === "full"));
    t.diagnostic(`${system}: ${killed} answers before, ${healed - killed} while it was gone, ${answers.length - healed} until ${route} was whole`);
  }
  await load.stop();

  const late = answers.filter(({ body }) => body.payment === "later");
  assert.deepEqual([...new Set(late.map(({ rung }) => rung))], ["partial"], "who is told that the payment is taken later is told by the rung");
  const last = late.at(-1)?.body.id as string;
  await until("what was ordered without payments is paid and shipped", async () => {
    const order = (await (await fetch(`${shop.url}/orders/${last}`)).json()) as { status: string };
    assert.notEqual(order.status, "cancelled");
    return order.status === "shipped";
  });
  for (const route of ["shop.listProducts", "shop.placeOrder", "shop.readMailbox"]) {
    const asked = answers.filter((answer) => answer.route === route);
    const good = asked.filter(({ status }) => status < 300).length;
    t.diagnostic(`${route}: ${good} good of ${asked.length}`);
    assert.ok(good >= 0.99 * asked.length, `${route}: ${good} good of ${asked.length}`);
  }
});
