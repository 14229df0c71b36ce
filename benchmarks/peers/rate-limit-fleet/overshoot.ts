/**
 * What eight processes with one leased limit in Redis let in beyond its law, when each asks three times as often as its share: `node
 * benchmarks/peers/rate-limit-fleet/overshoot.ts [seconds]` prints a line of JSON. `over` is counted from outside, `measured` is what the processes say of themselves.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { redis } from "@trestle/testing";
import { openLimits } from "@trestle/redis";
import { systemClock, systemRandom } from "trestle/kernel";
import { FleetLimit, fleetRule, ReachedPlace } from "trestle/limits";

const processes = 8;
const [perSecond, burst] = [20_000, 20_000];
const seconds = Number(process.argv[2] ?? 10);

if (process.env["REDIS"] === undefined) {
  await using server = await redis();
  const children = Array.from({ length: processes }, () => fork(import.meta.filename, [String(seconds)], { env: { ...process.env, REDIS: server.url } }));
  const told = (await Promise.all(children.map((child) => once(child, "message")))).map(
    ([said]) => said as { admitted: number; asked: number; measured: number; fromMs: number; toMs: number },
  );
  const sum = (of: "admitted" | "asked" | "measured") => told.reduce((all, each) => all + each[of], 0);
  const lastedMs = Math.max(...told.map(({ toMs }) => toMs)) - Math.min(...told.map(({ fromMs }) => fromMs));
  const law = burst + (perSecond * lastedMs) / 1_000;
  const over = Math.max(0, sum("admitted") - law);
  console.log(
    JSON.stringify({
      processes,
      perSecond,
      burst,
      seconds: lastedMs / 1_000,
      asked: sum("asked"),
      admitted: sum("admitted"),
      law,
      over,
      overPercent: (100 * over) / law,
      measured: sum("measured"),
      measuredPercent: (100 * sum("measured")) / law,
    }),
  );
} else {
  const place = openLimits({ url: process.env["REDIS"], app: "bench", id: String(process.pid), clock: systemClock });
  const rule = fleetRule({ across: "fleet", whenUnreachable: "refuse", exactness: "leased" }, { perSecond, burst, keys: 100 }, "overshoot", "overshoot");
  if (!rule) throw new Error("no rule");
  const limit = new FleetLimit({ rule, at: new ReachedPlace(place, systemClock), clock: systemClock, random: systemRandom });
  const fromMs = systemClock.wallMs();
  let [admitted, asked] = [0, 0];
  for (let nowMs = fromMs; nowMs - fromMs < seconds * 1_000; nowMs = systemClock.wallMs()) {
    const due = ((nowMs - fromMs) / 1_000) * ((3 * perSecond) / processes);
    for (; asked < due; asked++) if ((await limit.take("key")) === 0) admitted++;
    await new Promise<void>((resolve) => void systemClock.after(1, resolve));
  }
  process.send?.({ admitted, asked, measured: limit.overshootTokens, fromMs, toMs: systemClock.wallMs() });
  await place.close();
  process.disconnect?.();
}
