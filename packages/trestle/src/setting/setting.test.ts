import { test } from "node:test";
import assert from "node:assert/strict";
import { z } from "zod";
import { app, start } from "../app/index.ts";
import type { Component } from "../component/index.ts";
import { Fault } from "../kernel/index.ts";
import { get, service } from "../service/index.ts";
import { setting } from "./index.ts";

async function valueOf(component: Component & ReturnType<typeof setting>, settings: Record<string, string> = {}): Promise<unknown> {
  const reader = service("reader", { uses: { component } }, { read: get("/", {}, (_request, { component }) => ({ value: component.value })) });
  await using node = await start(app("test", [reader]), { store: "memory:", log: () => undefined, settings });
  return ((await (await node.fetch(new Request("http://x/"))).json()) as { readonly value: unknown }).value;
}

test("a setting is what start was given, else the environment's, else its default", async () => {
  const name = "TRESTLE_TEST_SETTING";
  assert.equal(await valueOf(setting(name, { default: "c" })), "c");
  process.env[name] = "b";
  try {
    assert.equal(await valueOf(setting(name, { default: "c" })), "b");
    assert.equal(await valueOf(setting(name, { default: "c" }), { [name]: "a" }), "a");
  } finally {
    delete process.env[name];
  }
});

test("a schema sees the text first, and then what it says as JSON", async () => {
  const given = (schema: z.ZodType, text: string) => valueOf(setting("X", { schema }) as never, { X: text });
  assert.equal(await given(z.coerce.number(), "8080"), 8080);
  assert.equal(await given(z.number(), "8080"), 8080);
  assert.equal(await given(z.string(), "8080"), "8080");
  assert.deepEqual(await given(z.array(z.string()), '["a"]'), ["a"]);
  assert.equal(await given(z.stringbool(), "yes"), true);
});

test("a bad or missing setting names itself, the rule and the value, and nothing starts", async () => {
  const boot = (component: Component, settings: Record<string, string> = {}) =>
    start(app("test", [component]), { store: "memory:", log: () => undefined, settings });
  await assert.rejects(
    boot(setting("PORT_X", { schema: z.coerce.number().int().max(65_535) }), { PORT_X: "99999" }),
    (fault) => Fault.is(fault, "setting.invalid") && /PORT_X/.test(fault.message) && /65535/.test(fault.message) && /"99999"/.test(fault.message),
  );
  await assert.rejects(boot(setting("MUST_BE_GIVEN")), (fault) => Fault.is(fault, "setting.invalid") && /MUST_BE_GIVEN.*required/.test(fault.message));
  await assert.rejects(boot(setting("MUST_BE_GIVEN", { schema: z.string() })), (fault) => Fault.is(fault, "setting.invalid") && /required/.test(fault.message));
  assert.throws(
    () => setting("not a name"),
    (fault) => Fault.is(fault, "component.bad-name"),
  );
});

test("two nodes of one app have settings of their own", async () => {
  const where = setting("WHERE");
  const reader = service("reader", { uses: { where } }, { read: get("/", {}, (_request, { where }) => where.value) });
  const app1 = app("test", [reader]);
  await using one = await start(app1, { store: "memory:", log: () => undefined, settings: { WHERE: "one" } });
  await using two = await start(app1, { store: "memory:", log: () => undefined, settings: { WHERE: "two" } });
  const ask = async (node: typeof one) => (await node.fetch(new Request("http://x/"))).json();
  assert.deepEqual([await ask(one), await ask(two)], ["one", "two"]);
});
