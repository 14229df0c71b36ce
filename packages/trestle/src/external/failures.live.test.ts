/** RES-01: the five faults at one system outside, one by one: five labels, and each one's recovery. */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { z } from "zod";
import { app, start } from "../app/index.ts";
import { Fault, sleep, systemClock } from "../kernel/index.ts";
import { agreement } from "../resilience/index.ts";
import { external, query } from "./index.ts";

/** What answers: well, late, with half a document, not at all the first time, or as one of three replicas of which the second is wrong. */
const system = `
  import { createServer } from "node:http";
  let hung = false;
  const server = createServer(({ url }, response) => {
    if (url === "/hang-once" && !hung) return void (hung = true);
    const answer = () => response.setHeader("content-type", "application/json").end(url === "/malformed" ? '{"n":' : '{"n":' + (url === "/replica/2" ? 2 : 1) + "}");
    if (url === "/late") setTimeout(answer, 1_000);
    else answer();
  });
  server.listen(Number(process.env.AT), "127.0.0.1", () => console.log(server.address().port));
`;
async function running(port = 0): Promise<{ readonly child: ChildProcess; readonly port: number }> {
  const child = spawn(process.execPath, ["--input-type=module", "--eval", system], {
    env: { ...process.env, AT: String(port) },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = (await once(child.stdout, "data")) as [Buffer];
  return { child, port: Number(String(line)) };
}
async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const endMs = systemClock.monotonicMs() + 60_000;
  while (!(await holds().catch(() => false))) {
    assert.ok(systemClock.monotonicMs() < endMs, `not within a minute: ${what}`);
    await sleep(systemClock, 20);
  }
}

test("[RES-01] replicas that disagree, a malformed body, a black hole, an answer past its limit, kill -9: five labels and no other, and after each its own recovery", async (t) => {
  const first = await running();
  let { child } = first;
  t.after(() => child.kill("SIGKILL"));
  const of = (path: string) => query({ input: z.object({}), returns: z.object({ n: z.int() }) }, (_input, wire) => wire.get(path));
  const far = external(
    "far",
    {
      url: `http://127.0.0.1:${first.port}`,
      timeout: "3s",
      retry: { attempts: 2 },
      breaker: { slowerThan: "700ms", cooldown: "500ms" },
      health: { ask: "well", input: {}, every: "300ms" },
    },
    {
      well: of("/well"),
      malformed: of("/malformed"),
      hangs: of("/hang-once"),
      late: of("/late"),
      replicated: query({ input: z.object({}), returns: z.object({ n: z.int() }) }, (_input, wire) =>
        agreement([1, 2, 3].slice(0, wire.attempt + 1).map((replica) => () => wire.get(`/replica/${replica}`))),
      ),
    },
  );
  const node = await start(app("test", [far]), { store: "memory:", port: 0, log: () => undefined });
  t.after(() => node.stop());
  const { well, malformed, hangs, late, replicated } = node.open(far);
  const metric = async (series: string) =>
    Number(new RegExp(`^${series.replace(/[{}]/g, "\\$&")} (\\d+)`, "m").exec(await (await fetch(`${node.url}/_trestle/metrics`)).text())?.[1] ?? 0);
  const failures = (kind: string) => metric(`trestle_failures_total{component="far",kind="${kind}"}`);
  assert.deepEqual(await well({}), { n: 1 });

  assert.deepEqual(await replicated({}), { n: 1 }, "a third was asked");
  assert.equal(await failures("byzantine"), 1);

  await assert.rejects(malformed({}), (thrown) => Fault.is(thrown), "what cannot be read is handed to nobody");
  assert.ok((await failures("response")) > 0);

  assert.deepEqual(await hangs({}), { n: 1 }, "asked again, it answered");
  assert.ok((await failures("omission")) > 0);

  await until("what is too slow is asked no more", async () => {
    await Promise.allSettled(Array.from({ length: 20 }, () => late({})));
    return (await metric('trestle_calls_declined_total{component="far",reason="breaker-open"}')) > 0;
  });
  assert.ok((await failures("timing")) > 0);
  await until("the health check has closed the breaker", async () => (await well({})).n === 1);

  child.kill("SIGKILL");
  await until("it is seen to be gone", async () => (await metric('trestle_dependency_up{component="far"}')) === 0 && (await failures("crash")) > 0);
  await assert.rejects(well({}), (thrown) => Fault.is(thrown, "external.unreachable") || Fault.is(thrown, "breaker.open"));
  ({ child } = await running(first.port));
  await until("started again, it is seen to be there", async () => (await metric('trestle_dependency_up{component="far"}')) === 1);
  await until("and asked again", async () => (await well({})).n === 1);

  const text = await (await fetch(`${node.url}/_trestle/metrics`)).text();
  const kinds = [...text.matchAll(/^trestle_failures_total\{component="far",kind="([a-z]+)"\}/gm)].map(([, kind]) => kind);
  assert.deepEqual(kinds.sort(), ["byzantine", "crash", "omission", "response", "timing"]);
});
