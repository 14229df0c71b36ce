import { test } from "node:test";
import { simulate } from "trestle/simulation";
import { busyDay } from "./shop.simulation.ts";

test("whatever crashes, nobody pays twice, every order ends, and the stock agrees with the orders", async () => {
  await simulate(busyDay);
});
