import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { test } from "node:test";
import { journalKey } from "../component/index.ts";
import { fakeNode, type FakeNode } from "../console/testing.ts";
import { seededRandom, uuidv7Ids, virtualClock } from "../kernel/index.ts";
import type { GraphView } from "./graph-view.ts";
import { operations, type OperationsView } from "./operations.ts";
import type { Write } from "../store/index.ts";
import { pageFiles } from "./page-files.ts";

const peer = { address: "127.0.0.1" };

async function node(options: Parameters<typeof fakeNode>[0] = {}) {
  const clock = virtualClock();
  const fake = await fakeNode({ clock, ...options });
  const answer = operations(fake.view);
  const ask = async (path: string, init: RequestInit = {}) =>
    answer(new Request(`http://localhost:3000${path}`, { ...init, headers: { host: "localhost:3000", ...(init.headers as Record<string, string>) } }), peer);
  const get = async (path: string) => (await ask(path)) as Response;
  const post = async (path: string, body: unknown, headers: Record<string, string> = {}) =>
    (await ask(path, {
      method: "POST",
      body: typeof body === "string" ? body : JSON.stringify(body),
      headers: { "content-type": "application/json", origin: "http://localhost:3000", ...headers },
    })) as Response;
  return { fake, clock, ask, get, post };
}

async function problemOf(answer: Response): Promise<{ readonly status: number; readonly code: string; readonly detail: string }> {
  assert.equal(answer.headers.get("content-type"), "application/problem+json");
  return (await answer.json()) as { status: number; code: string; detail: string };
}

const depthOf = async (fake: FakeNode, queue: string) => fake.store.read.queue(queue);

test("live and ready are two questions: a node that starts or drains is alive and not ready", async () => {
  let phase: ReturnType<OperationsView["phase"]> = "starting";
  const { get } = await node({ phase: () => phase });

  const seen: unknown[] = [];
  for (phase of ["starting", "ready", "draining"] as const)
    seen.push([phase, (await get("/_trestle/health/live")).status, (await get("/_trestle/health/ready")).status]);

  assert.deepEqual(seen, [
    ["starting", 200, 503],
    ["ready", 200, 200],
    ["draining", 200, 503],
  ]);
});

test("a node whose store is closed is not ready", async () => {
  const { fake, get } = await node();

  await fake.store.close();

  assert.equal((await get("/_trestle/health/ready")).status, 503);
  assert.equal((await get("/_trestle/health/live")).status, 200);
});

test("health is open to everyone and tells nothing else", async () => {
  const fake = await fakeNode({ clock: virtualClock(), token: "a-long-and-random-token" });
  const answer = operations(fake.view);
  const from = (path: string) => answer(new Request(`http://shop.example${path}`), { address: "203.0.113.9" });

  assert.deepEqual(await (await from("/_trestle/health/ready"))?.json(), { status: "ready", phase: "ready" });
  assert.equal((await from("/_trestle/metrics"))?.status, 401);
});

test("other paths are left to the app, also those that only begin alike", async () => {
  const { ask, get } = await node();

  assert.equal(await ask("/"), undefined);
  assert.equal(await ask("/_trestlework"), undefined);
  assert.equal((await get("/_trestle/")).status, 200);
  assert.equal((await problemOf(await get("/_trestle/nothing"))).code, "console.no-such-page");
  assert.equal((await problemOf(await get("/_trestle/assets/..%2f..%2fpackage.json"))).code, "console.no-such-page");
});

test("every file of the page is served with its type, and none is forgotten", async () => {
  const { get, ask } = await node();

  for (const file of pageFiles) {
    const answer = await get(file === "index.html" ? "/_trestle" : `/_trestle/assets/${file}`);
    assert.equal(answer.status, 200, file);
    assert.match(
      answer.headers.get("content-type") ?? "",
      file.endsWith(".js") ? /javascript/ : file.endsWith(".css") ? /css/ : file.endsWith(".svg") ? /svg/ : /html/,
    );
    assert.match(answer.headers.get("content-security-policy") ?? "", /default-src 'none'/);
    const again = await ask(`/_trestle/assets/${file}`, { headers: { "if-none-match": answer.headers.get("etag") ?? "" } });
    assert.equal(again?.status, 304, file);
  }
  assert.deepEqual(readdirSync(new URL("../console/page/", import.meta.url)).sort(), [...pageFiles].sort());
});

test("the graph has what is declared, what was seen, and says where the two differ", async () => {
  const { fake, clock, get } = await node();
  fake.traffic(20);
  fake.observer.used("nightly-report", "products");
  fake.observer.used("somebody", "orders");
  await clock.advance(10_000);

  const view = (await (await get("/_trestle/graph.json")).json()) as GraphView;
  const edge = (from: string, to: string, operation?: string) =>
    view.edges.find((one) => one.from === from && one.to === to && (operation === undefined || one.operation === operation));
  const component = (name: string) => view.components.find((one) => one.name === name);

  assert.deepEqual([edge("shop", "orders")?.declared, edge("shop", "orders")?.total, edge("shop", "orders")?.traffic.perSecond], [true, 20, 2]);
  assert.deepEqual([edge("nightly-report", "mail")?.declared, edge("nightly-report", "mail")?.total], [true, 0]);
  assert.deepEqual([edge("nightly-report", "products")?.declared, edge("nightly-report", "products")?.operation], [false, "use"]);
  assert.deepEqual([component("somebody")?.declared, component("somebody")?.kind], [false, "unknown"]);
  assert.deepEqual([component("shop")?.counts, component("shop")?.traffic.perSecond], ["handled", 12]);
  assert.deepEqual(
    component("shop")?.operations.map(({ name }) => name),
    ["placeOrder", "listProducts", "getOrder"],
  );
  assert.deepEqual([component("orders")?.counts, component("orders")?.traffic.perSecond], ["used", 6.1]);
  assert.equal(component("mail")?.queue?.waiting, 0);
  assert.ok(component("shop") && "owner" in (component("shop")?.facts ?? {}));
});

test("an edge that was waited for has failures and durations; one that follows carries what its follower handled", async () => {
  const { fake, clock, get } = await node();
  fake.traffic(20);
  await clock.advance(10_000);

  const { edges } = (await (await get("/_trestle/graph.json")).json()) as GraphView;
  const called = edges.find(({ to }) => to === "payments")?.traffic;
  const followed = edges.find(({ from, operation }) => from === "shipping" && operation === "follow");

  assert.ok(called?.p99Ms !== undefined && called.faultsPerSecond === 0.2);
  assert.equal(edges.find(({ to }) => to === "stock")?.traffic.p99Ms, undefined);
  assert.equal(followed?.traffic.perSecond, 2, "the pair is used as well: its use is what is shown");
  assert.equal(edges.find(({ from, to }) => from === "order-list" && to === "orders")?.total, 0);
});

test("status tells node, store, queues and what waits for a person", async () => {
  const { fake, clock, get } = await node();
  const [dead] = await fake.jobs("mail", 2, { kind: "dead", error: "no such mailbox" });
  await fake.jobs("fulfilment", 1, { kind: "undetermined", error: "may have happened" });
  await clock.advance(5_000);

  const status = (await (await get("/_trestle/status.json")).json()) as {
    node: { uptimeMs: number; roles: string[] };
    store: { engine: string; n: number };
    queues: { queue: string; dead: number }[];
    kept: { id: string; error: string; payload?: unknown }[];
    keptTotal: number;
  };

  assert.equal(status.node.uptimeMs, 5_000);
  assert.deepEqual(status.node.roles, ["web", "worker"]);
  assert.equal(status.store.engine, "memory");
  assert.ok(status.store.n > 0);
  assert.deepEqual(
    status.queues.map(({ queue, dead: count }) => [queue, count]),
    [
      ["fulfilment", 0],
      ["mail", 2],
    ],
  );
  assert.equal(status.keptTotal, 3);
  assert.equal(status.kept.find(({ id }) => id === dead)?.error, "no such mailbox");
  assert.ok(status.kept.every((job) => !("payload" in job)));
});

test("whichever process is asked tells the ladders of all, also of those that it has not itself", async () => {
  const route = { route: "shop.catalogue", mode: "enforce", ladder: ["full", "static"], forMs: 10, why: "", held: undefined } as const;
  const stands = async (rung: "full" | "static") => {
    const { fake } = await node();
    const degradation = { view: { file: undefined, refused: undefined, routes: [{ ...route, rung }] }, hold: () => Promise.resolve() };
    return operations({ ...fake.view, degradation }).says();
  };
  const said = [await stands("full"), await stands("static"), undefined];
  const parts = said.map((value, nth) => ({ name: `web.${nth}`, pid: nth, role: undefined, restarts: 0, value }));
  const process = { name: "web.2", port: undefined, ready: () => {}, tells: () => {}, over: () => {}, whole: () => Promise.resolve(parts) };
  const { fake } = await node();
  const answer = await operations({ ...fake.view, process })(
    new Request("http://localhost:3000/_trestle/status.json", { headers: { host: "localhost:3000" } }),
    peer,
  );

  const { degradation, processes } = (await answer?.json()) as { degradation: { routes: unknown }; processes: { phase: string }[] };
  assert.deepEqual(degradation.routes, [JSON.parse(JSON.stringify({ ...route, rung: "static", processes: { full: 1, static: 1 } }))]);
  assert.deepEqual(
    processes.map(({ phase }) => phase),
    ["ready", "ready", "not-answering"],
  );
});

test("jobs of a state are put back in one act, however many there are", async () => {
  const { fake, post } = await node();
  await fake.jobs("mail", 512, { kind: "dead", error: "no" });
  await fake.jobs("mail", 300, { kind: "dead", error: "no" });
  await fake.jobs("fulfilment", 2, { kind: "dead", error: "no" });

  const answer = await post("/_trestle/queues/mail/redrive", { state: "dead" });

  assert.deepEqual(await answer.json(), { queue: "mail", jobs: 812, more: false, missing: [] });
  assert.deepEqual([(await depthOf(fake, "mail")).waiting, (await depthOf(fake, "mail")).dead], [812, 0]);
  assert.equal((await depthOf(fake, "fulfilment")).dead, 2);
});

test("a queue is paused and resumed, and its groups are listed", async () => {
  const { fake, get, post } = await node();
  await fake.jobs("mail", 2);

  assert.deepEqual(await (await post("/_trestle/queues/mail/pause", {})).json(), { queue: "mail", paused: true });
  const paused = (await depthOf(fake, "mail")).paused;
  assert.deepEqual(await (await post("/_trestle/queues/mail/resume", {})).json(), { queue: "mail", paused: false });

  assert.deepEqual([paused, (await depthOf(fake, "mail")).paused], [true, false]);
  assert.deepEqual(await (await get("/_trestle/queues/mail/groups")).json(), { queue: "mail", groups: [] });
});

test("a dead job gets another message and runs with it; one that has called outside, or is not kept, is not edited", async () => {
  const { fake, clock, post } = await node();
  const ids = uuidv7Ids(clock, seededRandom("edited"));
  const [broken, called, waiting] = [ids.next(), ids.next(), ids.next()];
  const payload = new TextEncoder().encode('{"v":1,"tenant":"acme","data":{"to":"nobody"}}');
  const write = (...writes: Write[]) => fake.store.commit({ id: ids.next(), expects: [], writes });
  for (const id of [broken, called]) await write({ kind: "enqueue", job: { id, queue: "mail", payload, priority: 1 } });
  const { jobs } = await fake.store.claim({ holder: "test", leaseMs: 1_000, queues: [{ queue: "mail", limit: 2 }] });
  for (const { id, fence } of jobs) await write({ kind: "finish", job: id, fence, end: { kind: "dead", error: "no" } });
  await write(
    { kind: "put", key: journalKey(called), value: new Uint8Array([123, 125]) },
    { kind: "enqueue", job: { id: waiting, queue: "mail", payload, priority: 1 } },
  );
  const edit = (id: string) => post("/_trestle/queues/mail/edit", { ids: [id], message: { to: "ada" } });

  assert.equal((await edit(broken)).status, 200);
  const refused = [await problemOf(await edit(called)), await problemOf(await edit(waiting))];

  const rows = new Map((await fake.store.read.jobs({ queue: "mail", limit: 10 })).map((row) => [row.id, row]));
  assert.deepEqual(JSON.parse(new TextDecoder().decode(rows.get(broken)?.payload)), { v: 1, tenant: "acme", data: { to: "ada" } });
  assert.deepEqual([rows.get(broken)?.state, rows.get(called)?.state], ["waiting", "dead"]);
  assert.deepEqual(
    refused.map(({ status, code }) => [status, code]),
    [
      [409, "queue.edit-refused"],
      [409, "queue.edit-refused"],
    ],
  );
});

test("single jobs are retried or cancelled by id; ids of other queues and states are told, not touched", async () => {
  const { fake, post } = await node();
  const [first = "", second = ""] = await fake.jobs("mail", 2, { kind: "parked", error: "by hand" });
  const [other = ""] = await fake.jobs("fulfilment", 1, { kind: "dead", error: "no" });
  const [waiting = ""] = await fake.jobs("mail", 1);
  const unknown = "01a1f97c-4a2b-7da9-bb50-a71b100cab71";

  const retried = await post("/_trestle/queues/mail/retry", { ids: [first, first, other, waiting, unknown] });
  const cancelled = await post("/_trestle/queues/mail/cancel", { ids: [second] });

  assert.deepEqual(await retried.json(), { queue: "mail", jobs: 1, more: false, missing: [other, waiting, unknown] });
  assert.equal(((await cancelled.json()) as { jobs: number }).jobs, 1);
  const depth = await depthOf(fake, "mail");
  assert.deepEqual([depth.waiting, depth.parked], [2, 0]);
  assert.equal((await depthOf(fake, "fulfilment")).dead, 1);
});

test("cancelling a kept job takes the journal of its runs with it; a running one keeps its own, and so does one that is put back", async () => {
  const { fake, post } = await node();
  const [kept = "", other = ""] = await fake.jobs("mail", 2, { kind: "undetermined", error: "no answer" });
  const [waiting = ""] = await fake.jobs("mail", 1);
  const ids = uuidv7Ids(virtualClock(), seededRandom("journals"));
  const journals = [kept, other, waiting].map((id) => journalKey(id));
  const value = new Uint8Array([1]);
  await fake.store.commit({ id: ids.next(), expects: [], writes: journals.map((key) => ({ kind: "put", key, value })) });
  await fake.store.claim({ holder: "h", leaseMs: 1_000, queues: [{ queue: "mail", limit: 1 }] });

  await post("/_trestle/queues/mail/retry", { ids: [other] });
  await post("/_trestle/queues/mail/cancel", { ids: [kept, waiting] });

  assert.deepEqual(
    (await fake.store.read.records(journals)).map((row) => row !== undefined),
    [false, true, true],
  );
});

test("a bad selection names the option, the rule and the value", async () => {
  const { post, get } = await node();
  const bad: readonly (readonly [string, unknown, RegExp])[] = [
    ["redrive", { state: "gone" }, /state must be one of dead, parked, undetermined, got "gone"/],
    ["redrive", { ids: [], state: undefined }, /ids must be a list of 1 to 1000/],
    ["redrive", { ids: ["nope"] }, /ids must be UUIDs/],
    ["redrive", { ids: ["01a1f97c-4a2b-7da9-bb50-a71b100cab71"], state: "dead" }, /either ids or state/],
    ["retry", {}, /retry takes ids/],
    ["cancel", {}, /give ids, or state/],
  ];

  for (const [act, body, message] of bad) {
    const problem = await problemOf(await post(`/_trestle/queues/mail/${act}`, body));
    assert.deepEqual([problem.status, problem.code], [400, "queue.bad-selection"], JSON.stringify(body));
    assert.match(problem.detail, message);
  }
  assert.match((await problemOf(await get("/_trestle/queues/mail/jobs?limit=0"))).detail, /limit must be an integer from 1 to 1000, got "0"/);
  assert.match((await problemOf(await get("/_trestle/queues/mail/jobs?state=x"))).detail, /state must be one of/);
});

test("a body that is no JSON object, of another type or too large is refused", async () => {
  const { post } = await node();
  const status = async (body: unknown, headers: Record<string, string> = {}) =>
    (await problemOf(await post("/_trestle/queues/mail/redrive", body, headers))).status;

  assert.equal(await status("{"), 400);
  assert.equal(await status("[1]"), 400);
  assert.equal(await status("null"), 400);
  assert.equal(await status("{}", { "content-type": "text/plain" }), 415);
  assert.equal(await status(`{"ids":"${"x".repeat(70_000)}"}`), 413);
});

test("acting from another page changes nothing", async () => {
  const { fake, post } = await node();
  await fake.jobs("mail", 1, { kind: "dead", error: "no" });

  const answer = await post("/_trestle/queues/mail/redrive", {}, { origin: "https://evil.example" });

  assert.equal(answer.status, 403);
  assert.equal((await depthOf(fake, "mail")).dead, 1);
});

test("wrong methods say which are right, and HEAD is GET without a body", async () => {
  const { ask, get } = await node();

  assert.equal((await ask("/_trestle/metrics", { method: "DELETE", headers: { origin: "http://localhost:3000" } }))?.headers.get("allow"), "GET, HEAD");
  assert.equal((await get("/_trestle/queues/mail/redrive")).headers.get("allow"), "POST");
  const head = await ask("/_trestle", { method: "HEAD" });
  assert.deepEqual([head?.status, await head?.text()], [200, ""]);
});

test("the metrics page has the store, the queues and the process, each family once", async () => {
  const { fake, get } = await node();
  fake.traffic(3);
  await fake.jobs("mail", 4);

  await get("/_trestle/metrics");
  const text = await (await get("/_trestle/metrics")).text();

  for (const line of [
    'trestle_queue_jobs{queue="mail",state="waiting"} 4',
    "trestle_store_commits_total 1",
    'trestle_invocations_total{component="mail",end="ok",operation=""} 3',
    "trestle_node_ready 1",
  ])
    assert.ok(text.includes(`\n${line}\n`), line);
  assert.match(text, /^trestle_event_loop_delay_seconds\{quantile="0\.99"\} [\d.e-]+$/m);
  const types = [...text.matchAll(/^# TYPE (\S+)/gm)].map((match) => match[1]);
  assert.equal(new Set(types).size, types.length);
});

test("depths are counted at most once a second however often they are asked for", async () => {
  const { fake, clock, get } = await node();
  let counted = 0;
  const { queues } = fake.store.read;
  Object.assign(fake.store.read, { queues: () => ((counted += 1), queues.call(fake.store.read)) });

  for (let i = 0; i < 5; i++) await get("/_trestle/graph.json");
  await clock.advance(1_001);
  await get("/_trestle/status.json");

  assert.equal(counted, 2);
});
