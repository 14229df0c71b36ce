import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { z } from "zod";
import { external, query } from "../external/index.ts";
import { Fault, virtualClock } from "../kernel/index.ts";
import { get, service } from "../service/index.ts";
import { app, start, type Node, type StartOptions } from "./index.ts";

const folder = mkdtempSync(join(tmpdir(), "trestle-degradation-"));
const nodes: Node[] = [];
after(async () => {
  for (const node of nodes) await node.stop();
  rmSync(folder, { recursive: true });
});
const token = "only-for-this-test";
const far = external("far", { breaker: false }, { look: query({ input: z.object({}), returns: z.string() }, () => Promise.resolve("there")) });
const desk = service("desk", { uses: { far } }, { read: get("/read", { returns: z.string(), degrade: { static: "less" } }, () => "all") });
const declared = app("shop", [desk]);
const route = { ladder: ["full", "static"], when: [{ saturation: "pool", enter: 0.9, serve: "static" }] } as const;

async function running(options: StartOptions) {
  const clock = virtualClock();
  const lines: Record<string, unknown>[] = [];
  const log = (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>);
  const node = await start(declared, { store: "memory:", clock, log, settings: { TRESTLE_TOKEN: token }, ...options });
  nodes.push(node);
  const ask = async (path: string, body?: object) =>
    node.fetch(
      new Request(`http://localhost${path}`, {
        headers: { authorization: `Bearer ${token}`, ...(body && { "content-type": "application/json" }) },
        ...(body && { method: "POST", body: JSON.stringify(body) }),
      }),
    );
  const rung = async () => (await ask("/read")).headers.get("trestle-degraded") ?? "full";
  const hold = async (body: object) => (await ask("/_trestle/degradation/hold", body)).status;
  const shown = async () =>
    ((await (await ask("/_trestle/status.json")).json()) as { degradation: { refused?: string; routes: { rung: string; held?: string }[] } }).degradation;
  return { clock, lines, node, ask, rung, hold, shown };
}

test("how full something is comes from the app", async () => {
  let full = 0.5;
  const { clock, rung } = await running({
    degradation: { policies: { version: 1, mode: "enforce", routes: { "desk.read": route } }, saturation: { pool: () => full } },
  });

  assert.equal(await rung(), "full");
  full = 0.95;
  await clock.advance(100);
  assert.equal(await rung(), "static");
});

test("an external with bounded concurrency says itself how full it is", async () => {
  const clock = virtualClock();
  const waits = Promise.withResolvers<string>();
  const pool = external(
    "pool",
    { concurrency: 2, retry: false, breaker: false },
    { take: query({ input: z.object({}), returns: z.string() }, () => waits.promise) },
  );
  const taking = service(
    "taking",
    { uses: { pool } },
    { take: get("/take", { returns: z.string(), degrade: { static: "later" } }, (_request, { pool }) => pool.take({})) },
  );
  const routes = { "taking.take": { ladder: ["full", "static"], when: [{ saturation: "pool", enter: 1, serve: "static" }] } } as const;
  const node = await start(app("takers", [taking]), {
    store: "memory:",
    clock,
    log: () => undefined,
    degradation: { policies: { version: 1, mode: "enforce", routes } },
  });
  nodes.push(node);
  const take = async () => (await node.fetch(new Request("http://localhost/take"))).headers.get("trestle-degraded") ?? "full";

  const [first, second] = [take(), take()];
  await clock.advance(100);
  assert.equal(await take(), "static");
  waits.resolve("mine");
  assert.deepEqual(await Promise.all([first, second]), ["full", "full"]);
});

test("a service whose admission declines requests answers the others with less, until it has declined none for a while", async () => {
  const clock = virtualClock();
  const [begun, done] = [Promise.withResolvers<void>(), Promise.withResolvers<string>()];
  const busy = service(
    "busy",
    { admission: { running: 1, waiting: 0 } },
    { work: get("/work", { returns: z.string(), degrade: { static: "later" } }, () => (begun.resolve(), done.promise)) },
  );
  const routes = { "busy.work": { ladder: ["full", "static"], dwell: "1s", probe: "1h", when: [{ admission: "busy", enter: 0.5, serve: "static" }] } } as const;
  const node = await start(app("hall", [busy]), {
    store: "memory:",
    clock,
    log: () => undefined,
    degradation: { policies: { version: 1, mode: "enforce", routes } },
  });
  nodes.push(node);
  const work = async () => {
    const answer = await node.fetch(new Request("http://localhost/work"));
    return answer.status === 503 ? "declined" : (answer.headers.get("trestle-degraded") ?? "full");
  };

  const first = work();
  await begun.promise;
  const others = await Promise.all(Array.from({ length: 30 }, work));
  assert.deepEqual(new Set(others), new Set(["declined"]));
  done.resolve("done");
  assert.equal(await first, "full");
  await clock.advance(100);
  assert.equal(await work(), "static", "without the work that there is no room for");
  await clock.advance(11_000);
  assert.equal(await work(), "full");
});

test("[RES-06] policies that do not fit the app do not start it: what is unknown and what is there are told", async () => {
  const refused = async (change: object, told: RegExp) =>
    assert.rejects(
      start(declared, {
        store: "memory:",
        degradation: { policies: { version: 1, routes: { "desk.read": { ...route, ...change } } } as never, saturation: { pool: () => 0 } },
      }),
      (fault) => Fault.is(fault, "degradation.bad-policy") && told.test(fault.message),
    );

  await refused({ when: [{ breaker: "near", serve: "static" }] }, /breaker must be an external of this app \(far\), got near/);
  await refused({ when: [{ breaker: "far", serve: "static" }] }, /breaker must be an external with a breaker, and far has none/);
  await refused({ when: [{ health: "far", serve: "static" }] }, /health must be an external with a health check, and far has none/);
  await refused({ when: [{ saturation: "tank", enter: 1, serve: "static" }] }, /saturation must be one of event-loop, pool, got tank/);
  await refused({ when: [{ admission: "desk", serve: "static" }] }, /admission must be a service with admission \(this app has none\), got desk/);
  await refused({ ladder: ["full", "stale", "static"] }, /ladder\[1\] is stale, for which the code of desk\.read has nothing/);
  await assert.rejects(
    start(declared, { store: "memory:", degradation: { policies: { version: 1, routes: { "desk.write": route } } } }),
    (fault) => Fault.is(fault, "degradation.bad-policy") && /"?desk\.write"? is no operation of this app; it has desk\.read/.test(fault.message),
  );
  await assert.rejects(start(declared, { store: "memory:", degradation: join(folder, "none.yaml") }), (fault) => Fault.is(fault, "degradation.no-file"));
});

test("[RES-06] a running node follows its file: a broken version is told with its line and the last good one stays", async () => {
  const path = join(folder, "policies.yaml");
  const text = (hold: string) =>
    `version: 1\nmode: enforce\nroutes:\n  desk.read:\n    ladder: [full, static]\n    hold: ${hold}\n    when: [{ saturation: event-loop, enter: 0.9, serve: static }]\n`;
  writeFileSync(path, text("static"));
  const { clock, rung, shown, lines } = await running({ degradation: path });
  const looks = async () => {
    for (let look = 0; look < 12; look++) {
      await clock.advance(400);
      for (let turn = 0; turn < 3; turn++) await readFile(path);
    }
  };
  assert.equal(await rung(), "static");

  writeFileSync(path, text("gone"));
  await looks();
  assert.equal(await rung(), "static");
  assert.match((await shown()).refused as string, /line 6, column 11: .*hold must be one of .*, got "gone"/);
  assert.equal(lines.filter(({ level, code }) => level === "error" && code === "degradation.bad-policy").length, 1);
  writeFileSync(path, text("full"));
  await looks();
  assert.equal(await rung(), "full");
  assert.equal((await shown()).refused, undefined);
});

test("a route is held by hand in every process on the store, and let go again", async () => {
  const store = `sqlite:${join(folder, "shop.db")}` as const;
  const degradation = { policies: { version: 1, mode: "enforce", routes: { "desk.read": { ...route, dwell: "2s" } } }, saturation: { pool: () => 0 } } as const;
  const [one, other] = [await running({ store, degradation }), await running({ store, degradation })];
  const followed = async (wanted: string) => {
    const now = async () => (await other.shown()).routes[0]?.rung;
    for (let look = 0; look < 50 && (await now()) !== wanted; look++) await other.clock.advance(1_000);
    return now();
  };

  assert.equal(await one.hold({ route: "desk.read", rung: "static" }), 200);
  assert.equal(await one.rung(), "static");
  assert.equal(await followed("static"), "static");
  assert.deepEqual(
    (await other.shown()).routes.map(({ rung, held }) => [rung, held]),
    [["static", "by hand"]],
  );
  assert.equal(await other.hold({ route: "desk.read" }), 200);
  assert.equal(await followed("full"), "full");

  assert.equal(await one.hold({ route: "desk.read", rung: "stale" }), 400);
  assert.equal(await one.hold({ route: "desk.none", rung: "static" }), 400);
  assert.equal(await one.hold({ route: 7 }), 400);
  assert.equal((await one.ask("/_trestle/degradation/hold")).status, 405);
});
