import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { test } from "node:test";
import { missing } from "@trestle/testing";
import { Fault } from "trestle";
import { storeChoice } from "./store-choice.ts";

test("--store comes before TRESTLE_STORE, and that before the file in the data directory", async () => {
  const url = async (args: readonly string[], environment = {}) => (await storeChoice(args, environment, "/data")).url;

  assert.equal(await url(["--store", "postgres://db/shop"], { TRESTLE_STORE: "memory:" }), "postgres://db/shop");
  assert.equal(await url([], { TRESTLE_STORE: "memory:" }), "memory:");
  assert.equal(await url([]), "sqlite:/data/shop.db");
  await assert.rejects(url(["--storage", "x"]), (error) => Fault.is(error, "shop.bad-argument") && /--storage/.test(error.message));
});

test(
  "--store postgres starts a PostgreSQL, says that its data is temporary, and takes it away again",
  { skip: await missing("postgres", { managed: true }) },
  async () => {
    const choice = await storeChoice(["--store=postgres"], {}, "/data");
    const { hostname, port, protocol } = new URL(choice.url);
    const isListening = () =>
      once(connect(Number(port), hostname), "connect").then(
        () => true,
        () => false,
      );

    const before = await isListening();
    await choice[Symbol.asyncDispose]();

    assert.deepEqual([protocol, before, await isListening()], ["postgres:", true, false]);
    assert.match(choice.note ?? "", /temporary/);
  },
);
