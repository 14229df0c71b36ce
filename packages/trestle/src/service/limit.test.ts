/** Limits that stand over one another: who takes, who is told what, and what a refusal leaves behind. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { NodeServices, Principal } from "../component/index.ts";
import { testNode } from "../component/testing.ts";
import { Fault, seededRandom, virtualClock, type Clock } from "../kernel/index.ts";
import { post } from "./index.ts";
import { KeptLimit, limitHeaders, limitRules, takeFromLimits, type Limit, type LimitDecision, type Taken } from "./limit.ts";
import { operationOf } from "./operation.ts";
import type { Peer } from "./routes.ts";
import type { RouteDeclaration } from "./route.ts";
import { ServiceState } from "./state.ts";

const ada: Principal = { id: "ada", kind: "user", can: () => false };
const grace: Principal = { id: "grace", kind: "user", can: () => false };

function kept(limits: Limit | readonly Limit[], clock: Clock = virtualClock()): KeptLimit[] {
  return limitRules(limits, "test", "route").map((rule) => new KeptLimit(rule, { clock, random: seededRandom("limit") } as NodeServices));
}

function taking(limits: readonly KeptLimit[], peer: Peer): { readonly refused?: Fault; readonly headers?: Record<string, string>; readonly told: string[] } {
  const told: string[] = [];
  const tell = ({ rule }: KeptLimit, decision: LimitDecision) => void told.push(`${rule.name} ${decision}`);
  try {
    return { headers: limitHeaders((takeFromLimits(limits, peer, "shop.order", tell) as Taken).said, peer), told };
  } catch (thrown) {
    assert.ok(Fault.is(thrown, "request.limit-exceeded"));
    return { refused: thrown, told };
  }
}

test("[RES-10] a request passes when all limits over it admit it, and a refusal by one takes nothing from the others", () => {
  const limits = kept([
    { per: "everyone", rate: "1/h", burst: 10 },
    { per: "tenant", rate: "1/h", burst: 5 },
    { per: "address", rate: "1/h", burst: 9, dryRun: true },
    { per: "caller", rate: "1/h", burst: 2 },
  ]);
  const [everyone, tenant, address, caller] = limits as [KeptLimit, KeptLimit, KeptLimit, KeptLimit];
  const byAda = { tenant: "acme", principal: ada };

  for (let nth = 0; nth < 2; nth++) assert.equal(taking(limits, byAda).refused, undefined);
  for (let nth = 0; nth < 20; nth++) assert.deepEqual(taking(limits, byAda).told, ["address admitted", "caller refused"]);

  const left = [everyone.buckets.look(""), tenant.buckets.look("acme"), address.buckets.look("address unknown"), caller.buckets.look("user ada")];
  assert.deepEqual(
    left.map((decision) => decision.left),
    [8, 3, 7, 0],
  );
  for (let nth = 0; nth < 2; nth++)
    assert.deepEqual(taking(limits, { tenant: "acme", principal: grace }).told, [
      "address admitted",
      "everyone admitted",
      "tenant admitted",
      "caller admitted",
    ]);
});

test("a refusal names the limit that has to be waited for longest", () => {
  const limits = kept([
    { per: "caller", rate: "1/s", burst: 1 },
    { per: "tenant", rate: "1/m", burst: 1 },
  ]);
  const peer = { tenant: "acme", principal: ada };
  taking(limits, peer);

  const { refused } = taking(limits, peer);

  assert.match((refused as Fault).message, /shop\.order takes 1\/m requests per tenant, 1 at once/);
  assert.equal((refused?.details["headers"] as Record<string, string>)["retry-after"], "60");
});

test("the headers are those of the IETF draft: quota, window, unit and partition of each limit, what is left, and when it is whole again", async () => {
  const clock = virtualClock();
  const limits = kept(
    [
      { per: "caller", rate: "10/s", burst: 20 },
      { per: "caller", rate: "1000/d", burst: 1_000 },
      { per: "tenant", rate: "100/m", burst: 100, cost: 5 },
      { per: "address", rate: "5/s" },
    ],
    clock,
  );

  const { headers } = taking(limits, { tenant: "acme", principal: ada, address: "10.0.0.1" });

  assert.deepEqual(headers, {
    "ratelimit-policy":
      '"caller";q=20;w=2;qu="requests";pk=:YWRh:, "caller-2";q=1000;w=86400;qu="requests";pk=:YWRh:, "tenant";q=20;w=60;qu="requests";pk=:YWNtZQ==:, "address";q=5;w=1;qu="requests"',
    ratelimit: '"caller";r=19;t=1, "caller-2";r=999;t=87, "tenant";r=19;t=3, "address";r=4;t=1',
  });
});

test("a limit in a dry run counts what it would refuse, refuses nothing, and says nothing", () => {
  const limits = kept([
    { per: "everyone", rate: "1/h", burst: 1, dryRun: true },
    { per: "caller", rate: "1/h", burst: 3 },
  ]);

  const all = Array.from({ length: 4 }, () => taking(limits, { principal: ada }));

  assert.deepEqual(
    all.map(({ told }) => told),
    [
      ["everyone admitted", "caller admitted"],
      ["everyone would-refuse", "caller admitted"],
      ["everyone would-refuse", "caller admitted"],
      ["everyone would-refuse", "caller refused"],
    ],
  );
  assert.doesNotMatch((all[0]?.headers as Record<string, string>)["ratelimit"] as string, /everyone/);
});

test("routes of a service share its limits, and have their own beside them", () => {
  const state = new ServiceState({ clock: virtualClock(), random: seededRandom("shared") } as unknown as NodeServices);
  const from = {
    uses: undefined,
    timeoutMs: undefined,
    maxBodyBytes: 1,
    limits: limitRules({ per: "everyone", rate: "1/h", burst: 3 }, "service", "service"),
    priority: undefined,
    trustsCallers: false,
  };
  const [order, cancel] = ["order", "cancel"].map((name) =>
    state.limits(
      operationOf("shop", name, post(`/${name}`, { limit: { per: "everyone", rate: "1/h", burst: 2 } }, () => name) as unknown as RouteDeclaration, from),
    ),
  ) as [readonly KeptLimit[], readonly KeptLimit[]];

  const told = [taking(order, {}), taking(order, {}), taking(order, {}), taking(cancel, {}), taking(cancel, {})].map((one) => one.told.join());

  const admitted = "service-everyone admitted,everyone admitted";
  assert.deepEqual(told, [admitted, admitted, "everyone refused", admitted, "service-everyone refused"]);
});

test("[RES-10] limits of the fleet stand over those of the process: nodes share them, and what a refusal gave back is there for the others", async () => {
  const node = await testNode();
  const limits: readonly Limit[] = [
    { per: "everyone", rate: "1/h", burst: 10, across: "fleet", whenUnreachable: "refuse" },
    { per: "caller", rate: "1/h", burst: 2 },
    { per: "tenant", rate: "1/h", burst: 3, across: "fleet", whenUnreachable: "refuse", dryRun: true },
  ];
  const both = [node, await testNode({ store: node.store, seed: "second" })].map((each) =>
    limitRules(limits, "test", "route", "shop.order").map((rule) => new KeptLimit(rule, each)),
  );
  const asking = async (nth: number) => {
    const told: string[] = [];
    const peer = { tenant: "acme", principal: ada };
    try {
      const { said } = await takeFromLimits(both[nth] as KeptLimit[], peer, "shop.order", ({ rule }, decision) => void told.push(`${rule.name} ${decision}`));
      return [limitHeaders(said, peer)["ratelimit"]?.split(",")[0], ...told];
    } catch (thrown) {
      assert.ok(Fault.is(thrown, "request.limit-exceeded"));
      return told;
    }
  };

  assert.deepEqual(await asking(0), ['"everyone";r=9;t=3600', "tenant admitted", "everyone admitted", "caller admitted"]);
  assert.deepEqual(await asking(1), ['"everyone";r=8;t=3600', "tenant admitted", "everyone admitted", "caller admitted"]);
  await asking(0);
  for (let nth = 0; nth < 3; nth++) assert.deepEqual(await asking(0), ["caller refused"]);
  await node.clock.advance(200);
  assert.deepEqual(await asking(1), ['"everyone";r=6;t=3600', "tenant would-refuse", "everyone admitted", "caller admitted"]);
});

test("what is wrong with a limit is said where it is declared, by its name", () => {
  const wrong: readonly (readonly [RegExp, Limit | readonly Limit[]])[] = [
    [/shop: limit: per must be "caller", "tenant", "address" or "everyone", got "user"/, { per: "user" as "caller", rate: "1/s" }],
    [/shop: limit: rate must be a rate above 0.* got undefined/, { per: "caller" } as Limit],
    [
      /shop: limit\[1\]: burst must be a number from 1 to 1000000000, got NaN/,
      [
        { per: "caller", rate: "1/s" },
        { per: "caller", rate: "1/s", burst: NaN },
      ],
    ],
    [/shop: limit: cost must be a number from 0.000001 to 1, got 2/, { per: "caller", rate: "1/s", cost: 2 }],
    [/shop: limit: keys must be an integer from 1 to 16777216, got 0/, { per: "caller", rate: "1/s", keys: 0 }],
  ];

  for (const [message, limit] of wrong) assert.throws(() => limitRules(limit, "shop: limit", "route"), message);
});
