import assert from "node:assert/strict";
import { test } from "node:test";
import { freePort } from "./free-port.ts";

test("files that run side by side are given ports that no other lane has", async (t) => {
  const before = process.env["TRESTLE_TEST_LANE"];
  t.after(() => (before === undefined ? delete process.env["TRESTLE_TEST_LANE"] : (process.env["TRESTLE_TEST_LANE"] = before)));
  const portsOf = (lane: number) => {
    process.env["TRESTLE_TEST_LANE"] = String(lane);
    return Promise.all(Array.from({ length: 50 }, freePort));
  };

  const [first, second] = [await portsOf(0), await portsOf(8)];

  const remainders = (ports: readonly number[]) => [...new Set(ports.map((port) => port % 16))];
  assert.equal(remainders(first).length, 1);
  assert.equal(remainders(second).length, 1);
  assert.notDeepEqual(remainders(first), remainders(second));
  for (const port of [...first, ...second]) assert.ok(port >= 15_000 && port < 31_000, `${port}`);
});
