import assert from "node:assert/strict";
import childProcess from "node:child_process";
import nodeCrypto, { randomUUID } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { connect } from "node:net";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { Fault, whenSettled } from "../kernel/index.ts";
import { virtualGlobals } from "./virtual-globals.ts";
import { currentLife, World, type Life } from "./world.ts";

/** Runs `work` as the code of a host, to its end. */
async function asHost<T>(seed: string, work: (life: Life) => Promise<T>): Promise<T> {
  const restore = virtualGlobals(() => currentLife());
  try {
    const world = new World({ seed });
    const ended = new Promise<T>((resolve, reject) => {
      world.host("host").boot((life) => void work(life).then(resolve, reject));
    });
    const [answer] = await Promise.all([ended, world.run(() => false)]);
    return answer;
  } finally {
    restore();
  }
}
const refused = (work: () => unknown): Promise<string> =>
  Promise.resolve()
    .then(work)
    .then(
      () => "let through",
      (fault: unknown) => (Fault.is(fault) ? fault.code : String(fault)),
    );

test("what asks the clock in a host is told the host's time, and a timer waits for it", async () => {
  const seen = await asHost("time", async () => {
    const before = [Date.now(), performance.now(), new Date().getTime(), process.hrtime.bigint()] as const;
    await new Promise((resolve) => setTimeout(resolve, 5_000));
    return { before, after: [Date.now(), performance.now(), new Date().getTime(), process.hrtime.bigint()] as const };
  });

  assert.equal(new Date(seen.before[0]).toISOString(), "2024-01-01T00:30:00.000Z");
  assert.deepEqual([seen.after[0] - seen.before[0], seen.after[1] - seen.before[1], seen.after[2] - seen.before[2]], [5_000, 5_000, 5_000]);
  assert.equal(seen.after[3] - seen.before[3], 5_000_000_000n);
});

test("intervals, immediates, cleared timers and AbortSignal.timeout go by the host's time", async () => {
  const said = await asHost("timers", async () => {
    const said: string[] = [];
    const interval = setInterval(() => said.push(`every ${Math.round(performance.now())}`), 100);
    const never = setTimeout(() => said.push("never"), 10);
    clearTimeout(never);
    setImmediate(() => said.push("at once"));
    const over = AbortSignal.timeout(250);
    await new Promise((resolve) => over.addEventListener("abort", resolve));
    clearInterval(interval);
    return [...said, (over.reason as Error).name];
  });

  assert.deepEqual(said, ["at once", "every 100", "every 200", "TimeoutError"]);
});

test("chance in a host is the seed's, whichever way it is asked for", async () => {
  const draw = () =>
    Promise.resolve([
      Math.random(),
      crypto.randomUUID(),
      randomUUID(),
      nodeCrypto.randomBytes(4).toString("hex"),
      nodeCrypto.randomInt(1_000),
      crypto.getRandomValues(new Uint8Array(2)).join(),
    ]);

  const [one, again, other] = [await asHost("a", draw), await asHost("a", draw), await asHost("b", draw)];

  assert.deepEqual(again, one);
  assert.notDeepEqual(other, one);
  assert.match(String(one[1]), /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});

test("what reaches outside of the process is refused in a host: sockets, programs, threads, files in the background", async () => {
  const answers = await asHost("outside", () =>
    Promise.all([
      refused(() => connect(1)),
      refused(() => childProcess.execFileSync("true")),
      refused(() => new Worker("data:text/javascript,", {})),
      refused(() => readFile(import.meta.filename)),
      refused(() => writeFileSync("/nowhere/at/all", "")),
      refused(() => readFileSync(import.meta.filename, "utf8").length),
    ]),
  );

  assert.deepEqual(answers, [...Array.from({ length: 5 }, () => "simulation.outside-world"), "let through"]);
});

test("outside of a host everything is as it was, meanwhile and afterwards", async () => {
  const real = Date.now();
  const meanwhile = await asHost("elsewhere", () => new Promise<number>((resolve) => whenSettled(() => resolve(0))).then(() => 0));
  assert.equal(meanwhile, 0);

  assert.ok(Math.abs(Date.now() - real) < 60_000);
  assert.equal(typeof (await readFile(import.meta.filename)).length, "number");
});
