import assert from "node:assert/strict";
import { test } from "node:test";
import { Fault } from "../kernel/index.ts";
import { labelled, looksOf, processFlags, processPlan } from "./processes.ts";
import { degradationOfAll, metricsOfAll, observedByAll } from "./whole.ts";

test("a plan of processes is a number, or roles with numbers; anything else is refused by name", () => {
  const roles = ["web", "worker"];
  assert.deepEqual(processPlan("2", roles), [
    { name: "node.1", role: undefined },
    { name: "node.2", role: undefined },
  ]);
  assert.deepEqual(
    processPlan(" web:2, worker:1", roles).map(({ name, role }) => `${name} ${role}`),
    ["web.1 web", "web.2 web", "worker.1 worker"],
  );
  for (const text of ["", "0", "-1", "1.5", "65", "web", "web:", "web:0", "web:1:2", "mail:1", "web:1,web:2", "web:40,worker:40", "web:1,"])
    assert.throws(
      () => processPlan(text, roles),
      (thrown) => Fault.is(thrown, "processes.bad-plan") && thrown.message.includes(JSON.stringify(text)),
      text,
    );
});

test("how many looks are too many for silence and for starting are options, or variables, or 30 and 300; none is for ever", () => {
  assert.deepEqual(
    (["silentLooks", "startLooks"] as const).map((option) =>
      [undefined, 7, 0].map((given) => [{}, { TRESTLE_SILENT_LOOKS: "5", TRESTLE_START_LOOKS: "6" }].map((environment) => looksOf(option, given, environment))),
    ),
    [
      [
        [30, 5],
        [7, 7],
        [Infinity, Infinity],
      ],
      [
        [300, 6],
        [7, 7],
        [Infinity, Infinity],
      ],
    ],
  );
  for (const text of ["2", "3601", "soon", "4.5"])
    assert.throws(
      () => looksOf("silentLooks", undefined, { TRESTLE_SILENT_LOOKS: text }),
      (thrown) => Fault.is(thrown, "option.out-of-range") && thrown.message.includes("TRESTLE_SILENT_LOOKS"),
      text,
    );
});

test("a log line of a process stays JSON and says which process it is; any other line gets a prefix", () => {
  assert.deepEqual(JSON.parse(labelled("web.1", '{"level":"info","message":"x"}')), { process: "web.1", level: "info", message: "x" });
  assert.equal(labelled("web.1", "{ not json"), "web.1 | { not json");
  assert.equal(labelled("web.1", "hello"), "web.1 | hello");
});

test("metrics of all processes are one page: each series with its process, those of the one store once", () => {
  const text = (n: number) =>
    `# HELP a_total What.\n# TYPE a_total counter\na_total{x="1"} ${n}\na_total ${n}\n# TYPE trestle_queue_jobs gauge\ntrestle_queue_jobs{queue="q"} ${n}\n`;

  const page = metricsOfAll(
    [
      { name: "web.1", text: text(1) },
      { name: "worker.1", text: `${text(2)}# TYPE b gauge\nb{quantile="0.5"} 3\n` },
    ],
    "worker.1",
  );

  assert.equal(
    page,
    `# HELP a_total What.
# TYPE a_total counter
a_total{process="web.1",x="1"} 1
a_total{process="web.1"} 1
a_total{process="worker.1",x="1"} 2
a_total{process="worker.1"} 2
# TYPE trestle_queue_jobs gauge
trestle_queue_jobs{queue="q"} 2
# TYPE b gauge
b{process="worker.1",quantile="0.5"} 3
`,
  );
});

test("what was seen by all processes adds up; of quantiles the worst is shown", () => {
  const quiet = { perSecond: 1, refusedPerSecond: 0, faultsPerSecond: 0.5 };
  const seen = observedByAll([
    {
      components: [["shop", { ...quiet, p99Ms: 5 }, [["order", { ...quiet, total: 3 }]]]],
      edges: [{ from: "a", to: "b", total: 1, traffic: quiet }],
      gates: [
        { component: "shop", gate: "admission", decisions: { admitted: 5 }, room: { running: 3, places: 8, waiting: 1 } },
        { component: "bank", gate: "calls", decisions: { crash: 1 }, breaker: "open" },
      ],
    },
    {
      components: [
        ["shop", { ...quiet, p99Ms: 9 }, [["order", { ...quiet, total: 4 }]]],
        ["mail", quiet, []],
      ],
      edges: [
        { from: "a", to: "b", total: 2, traffic: quiet },
        { from: "b", to: "c", total: 1, traffic: quiet },
      ],
      gates: [
        { component: "shop", gate: "admission", decisions: { admitted: 2, full: 4 }, room: { running: 8, places: 8, waiting: 20, overdue: 2 } },
        { component: "bank", gate: "calls", decisions: {}, breaker: "half-open" },
        { component: "shop", gate: "limit caller", decisions: { refused: 1 } },
      ],
    },
  ]);

  assert.deepEqual(seen.components.get("shop")?.traffic, { perSecond: 2, refusedPerSecond: 0, faultsPerSecond: 1, p99Ms: 9 });
  assert.equal(seen.components.get("shop")?.operations.get("order")?.total, 7);
  assert.deepEqual([...seen.components.keys()], ["shop", "mail"]);
  assert.deepEqual(
    seen.edges.map(({ from, to, total }) => `${from}>${to} ${total}`),
    ["a>b 3", "b>c 1"],
  );
  assert.deepEqual(seen.gates, [
    { component: "shop", gate: "admission", decisions: { admitted: 7, full: 4 }, room: { running: 11, places: 16, waiting: 21, overdue: 2 } },
    { component: "bank", gate: "calls", decisions: { crash: 1 }, breaker: "open" },
    { component: "shop", gate: "limit caller", decisions: { refused: 1 } },
  ]);
});

test("of the ladders of all processes the one that is furthest down is shown for each route, with how many stand where", () => {
  const route = { route: "shop.catalogue", mode: "enforce", ladder: ["full", "stale", "static"], held: undefined } as const;
  const view = { file: "policies.yaml", refused: undefined };
  const list = { ...route, route: "shop.list", rung: "full", forMs: 9, why: "" } as const;

  const seen = degradationOfAll([
    { ...view, routes: [{ ...route, rung: "full", forMs: 60_000, why: "" }, list] },
    { ...view, refused: "line 3", routes: [{ ...route, rung: "stale", forMs: 10, why: "slow" }] },
    { ...view, routes: [{ ...route, rung: "static", forMs: 20, why: "the breaker of prices is open" }] },
    { ...view, routes: [{ ...route, rung: "static", forMs: 30, why: "prices is down" }] },
  ]);

  assert.deepEqual(seen, {
    file: "policies.yaml",
    refused: "line 3",
    routes: [
      { ...route, rung: "static", forMs: 30, why: "prices is down", processes: { full: 1, stale: 1, static: 2 } },
      { ...list, processes: { full: 1 } },
    ],
  });
  assert.equal(degradationOfAll([]), undefined);
});

test("a process is started with a small young generation, unless this one was told of another, by its arguments or NODE_OPTIONS", () => {
  assert.deepEqual(processFlags(["--no-warnings"]), ["--no-warnings", "--max-semi-space-size=8"]);
  assert.deepEqual(processFlags(["--max-semi-space-size=32"]), ["--max-semi-space-size=32"]);
  assert.deepEqual(processFlags(["--max_semi_space_size=32"]), ["--max_semi_space_size=32"]);
  assert.deepEqual(processFlags([], "--max-old-space-size=256 --min-semi-space-size=16"), []);
  assert.deepEqual(processFlags([], "--max-old-space-size=256"), ["--max-semi-space-size=8"]);
});
