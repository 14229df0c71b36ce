import assert from "node:assert/strict";
import { test } from "node:test";
import { Fault, systemClock, systemRandom } from "../kernel/index.ts";
import { enginePackage, openStoreAt, storeUrl, withoutPassword } from "./engines.ts";

test("a store on a server has no file, and its URL may come from the environment", () => {
  assert.deepEqual(storeUrl("shop", { store: "postgres://db/shop" }, {}), { url: "postgres://db/shop", file: undefined });
  assert.deepEqual(storeUrl("shop", {}, { TRESTLE_STORE: "postgresql://db/shop" }), { url: "postgresql://db/shop", file: undefined });
});

test("an engine that is not installed is a fault that says what to install, and never the password", async () => {
  await assert.rejects(
    enginePackage("@trestle/no-such-engine", "postgres://ada:secret@db/shop"),
    (fault) => Fault.is(fault, "store.engine-missing") && /npm install @trestle\/no-such-engine/.test(fault.remedy) && !fault.message.includes("secret"),
  );
});

test("a scheme that nobody knows is a fault", async () => {
  await assert.rejects(openStoreAt("mysql://db/shop", { clock: systemClock, random: systemRandom }), (fault) => Fault.is(fault, "store.url-unknown"));
  assert.equal(withoutPassword("postgres://ada:s%40cret@db:5432/shop?schema=x"), "postgres://ada:***@db:5432/shop?schema=x");
});
