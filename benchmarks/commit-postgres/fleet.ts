/** Four processes on one server whose flush takes 5 ms longer; `load` callers in each. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { postgres } from "@trestle/testing";
import type { Measured, Variant } from "../harness/benchmark.ts";
import { makeTables, work, type Kind } from "./work.ts";

const processes = 4;

const fleet: Variant = async ({ load, seconds }) => {
  const kind = process.env["FLEET_OF"] as Kind;
  await using server = await postgres({ settings: { shared_buffers: "256MB" }, flushDelayMs: 5 });
  if (kind === "trestle") await (await work(kind, server.url)).close();
  else await makeTables(server.url);
  const measured = await Promise.all(
    Array.from({ length: processes }, async () => {
      const child = fork(new URL("./fleet-member.ts", import.meta.url), [kind, server.url, String(load), String(seconds)]);
      const [answer] = (await once(child, "message")) as [Measured];
      return answer;
    }),
  );
  const rates = measured.map(({ opsPerSec }) => opsPerSec);
  process.stderr.write(`  ${kind}, ${processes} processes x ${load}: least/most share ${(Math.min(...rates) / Math.max(...rates)).toFixed(2)}\n`);
  const middle = (of: "p50Ms" | "p99Ms") => measured.map((one) => one[of]).sort((a, b) => a - b)[processes / 2] as number;
  return { opsPerSec: rates.reduce((sum, rate) => sum + rate, 0), p50Ms: middle("p50Ms"), p99Ms: middle("p99Ms") };
};
export default fleet;
