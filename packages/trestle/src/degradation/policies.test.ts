import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Fault } from "../kernel/index.ts";
import { rulesOf } from "./index.ts";

const route = { ladder: ["full", "static", "unavailable"], when: [{ breaker: "prices", serve: "static" }] };
const good = { version: 1, routes: { "shop.catalogue": route } };
const withRoute = (change: object) => ({ ...good, routes: { "shop.catalogue": { ...route, ...change } } });
const withTrigger = (trigger: object) => withRoute({ when: [{ serve: "static", ...trigger }] });

/** What is wrong, as a person reads it. */
function flaws(policies: unknown): readonly string[] {
  try {
    rulesOf(policies);
    return [];
  } catch (fault) {
    assert.ok(Fault.is(fault, "degradation.bad-policy"), String(fault));
    return fault.details["flaws"] as string[];
  }
}

test("what is left out has its default", () => {
  const [rules] = rulesOf(withTrigger({ burn: "errors", objective: "99.9%" }));

  assert.deepEqual(
    { ...rules, triggers: rules?.triggers.map(({ text: _, ...trigger }) => trigger) },
    {
      route: "shop.catalogue",
      mode: "dark",
      ladder: ["full", "static", "unavailable"],
      dwellMs: 10_000,
      probeMs: 1_000,
      hold: undefined,
      triggers: [
        {
          serve: "static",
          kind: "burn",
          of: "errors",
          budget: 1 - 99.9 / 100,
          slowerThanMs: Infinity,
          shortMs: 30_000,
          longMs: 300_000,
          calls: 20,
          enter: 10,
          leave: 1,
        },
      ],
    },
  );
});

test("of admission everything but the service has a default", () => {
  const [rules] = rulesOf(withTrigger({ admission: "shop" }));
  assert.deepEqual(
    rules?.triggers.map(({ text: _, ...trigger }) => trigger),
    [{ serve: "static", kind: "admission", of: "shop", enter: 0.05, leave: 0.01, calls: 20 }],
  );
  assert.equal((rulesOf(withTrigger({ admission: "shop", enter: 0.005 }))[0]?.triggers[0] as { leave: number }).leave, 0.005);
});

test("[RES-06] each flaw is told with the option, the rule and the value", () => {
  const at = 'routes."shop.catalogue"';
  const cases: readonly (readonly [unknown, RegExp])[] = [
    [undefined, /^the whole must be a mapping, got nothing$/],
    [{ ...good, version: 2 }, /^version must be 1, got 2$/],
    [{ version: 1 }, /^the whole must have routes$/],
    [{ ...good, routs: {} }, /^routs is unknown; there are .*routes$/],
    [{ ...good, mode: "on" }, /^mode must be one of dark, enforce, got "on"$/],
    [{ version: 1, routes: { catalogue: route } }, /^routes\.catalogue must have a name that matches .*, got "catalogue"$/],
    [withRoute({ ladder: ["full"] }), /ladder must have 2 to 5 entries, got 1$/],
    [withRoute({ ladder: ["full", "gone"] }), /ladder\[1\] must be one of full, stale, partial, static, unavailable, got "gone"$/],
    [withRoute({ ladder: ["static", "full"] }), /ladder must begin with full and go down in the order .*, got \["static","full"\]$/],
    [withRoute({ ladder: ["full", "static", "static"] }), /ladder must begin with full/],
    [withRoute({ hold: "stale" }), /hold must be a rung of the ladder \(full, static, unavailable\), got stale$/],
    [withRoute({ dwell: "soon" }), /dwell must match .*, got "soon"$/],
    [withRoute({ dwell: "2h" }), /dwell must be from 0ms to 1h, got "2h"$/],
    [withRoute({ probe: 5 }), /probe must be from 10ms to 1h, got 5$/],
    [{ version: 1, routes: { "shop.catalogue": { ladder: route.ladder } } }, /must have when or hold$/],
    [withRoute({ when: [] }), /when must have 1 to 20 entries, got 0$/],
    [withTrigger({}), /when\[0\] must have exactly one of breaker, health, saturation, admission, burn, got none$/],
    [withTrigger({ breaker: "a", health: "b" }), /when\[0\] must have exactly one of .*, got breaker and health$/],
    [withTrigger({ breaker: "a", serve: "full" }), /serve must be a rung of the ladder below full \(static, unavailable\), got full$/],
    [withTrigger({ breaker: "a", serve: "stale" }), /serve must be a rung of the ladder below full/],
    [withTrigger({ breaker: "a", enter: 1 }), /when\[0\]\.enter says nothing for breaker$/],
    [withTrigger({ health: "a", objective: "99%" }), /when\[0\]\.objective says nothing for health$/],
    [withTrigger({ saturation: "a" }), /when\[0\]\.enter must be above 0, got nothing$/],
    [withTrigger({ saturation: "a", enter: 0.5, leave: 0.6 }), /when\[0\]\.leave must be at most enter \(0\.5\), got 0\.6$/],
    [withTrigger({ saturation: "a", enter: 0.5, calls: 3 }), /when\[0\]\.calls says nothing for saturation$/],
    [withTrigger({ admission: "shop", enter: 0.01, leave: 0.02 }), /when\[0\]\.leave must be at most enter \(0\.01\), got 0\.02$/],
    [withTrigger({ admission: "shop", windows: ["1s", "2s"] }), /when\[0\]\.windows says nothing for admission$/],
    [withTrigger({ burn: "errors" }), /when\[0\]\.objective must be above 0% and below 100%, got nothing$/],
    [withTrigger({ burn: "errors", objective: "100%" }), /when\[0\]\.objective must be above 0% and below 100%, got "100%"$/],
    [withTrigger({ burn: "errors", objective: "99%", slowerThan: "1s" }), /when\[0\]\.slowerThan says nothing for burn: errors$/],
    [withTrigger({ burn: "latency", objective: "99%" }), /when\[0\]\.slowerThan must be given for burn: latency$/],
    [withTrigger({ burn: "errors", objective: "99%", windows: ["5m", "30s"] }), /when\[0\]\.windows must be a short and a longer one/],
    [withTrigger({ burn: "errors", objective: "99%", calls: 0.5 }), /when\[0\]\.calls must be a whole number, got 0\.5$/],
    [withTrigger({ burn: "errors", objective: "99%", enter: -1 }), /when\[0\]\.enter must be above 0, and at most 1000000, got -1$/],
    // Nothing is ever below 0: the route would stay down.
    [withTrigger({ saturation: "a", enter: 0.5, leave: 0 }), /when\[0\]\.leave must be above 0, and at most 1000000, got 0$/],
    [withTrigger({ admission: "shop", leave: 0 }), /when\[0\]\.leave must be above 0, and at most 1000000, got 0$/],
    [withTrigger({ burn: "errors", objective: "99%", leave: 0 }), /when\[0\]\.leave must be above 0, and at most 1000000, got 0$/],
  ];

  assert.deepEqual(flaws(good), []);
  for (const [policies, told] of cases) {
    const [first = "nothing is wrong with it", ...more] = flaws(policies);
    assert.match(first, told, JSON.stringify(policies));
    assert.deepEqual(more, [], JSON.stringify(policies));
    if (first.includes("when[0]")) assert.ok(first.startsWith(`${at}.when[0]`));
  }
  assert.equal(flaws({ ...good, mode: 3, extra: 1 }).length, 2, "all are told");
});

test("a route that is held by hand needs no trigger", () => {
  const [rules] = rulesOf({ version: 1, routes: { "shop.catalogue": { ladder: route.ladder, hold: "static" } } });

  assert.deepEqual([rules?.hold, rules?.triggers], ["static", []]);
});

test("the check knows every keyword that the published schema uses", () => {
  const known = new Set(
    "$schema title description $defs $ref type const enum pattern minimum exclusiveMinimum maximum minItems maxItems items required properties additionalProperties propertyNames oneOf anyOf".split(
      " ",
    ),
  );
  const used = new Set<string>();
  const visit = (schema: unknown, isSchema: boolean): void => {
    if (typeof schema !== "object" || schema === null) return;
    if (Array.isArray(schema)) return schema.forEach((one) => visit(one, isSchema));
    for (const [name, value] of Object.entries(schema)) {
      if (isSchema) used.add(name);
      visit(value, isSchema ? !["properties", "$defs", "enum", "required", "const"].includes(name) : true);
    }
  };
  visit(JSON.parse(readFileSync(new URL("policies.schema.json", import.meta.url), "utf8")), true);

  assert.ok(used.size >= 15, [...used].join(" "));
  assert.deepEqual(
    [...used].filter((keyword) => !known.has(keyword)),
    [],
  );
});
