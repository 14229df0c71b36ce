/** An app as several processes: roles, ports, readiness, any of them killed, paused and started again, and their output at hand. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Fault } from "trestle/kernel";
import { isAlive } from "./process-tree.ts";
import { nodeProcess, nodeProcesses } from "./node-processes.ts";

const script = new URL("./testing/small-app.ts", import.meta.url);
const ready = /listens/;

test("three web and two worker processes start on ports of their own, and each is told its role", async () => {
  await using fleet = await nodeProcesses({ script, ready, roles: { web: 3, worker: 2 }, env: ({ role, index }) => ({ SAYS: `${role} ${index}` }) });

  await fleet.start();
  const answers = await Promise.all(fleet.all.map(async (one) => (await fetch(one.url)).text()));

  assert.deepEqual(answers, ["web 0", "web 1", "web 2", "worker 0", "worker 1"]);
  assert.deepEqual([fleet.of("web").length, fleet.of("worker").length, new Set(fleet.all.map((one) => one.port)).size], [3, 2, 5]);
  assert.match(fleet.log(), /^worker-2: listens$/m);
});

test("any one is killed, paused, stopped and started again under its port, and the others go on", async () => {
  await using fleet = await nodeProcesses({ script, ready, roles: { web: 2 } });
  await fleet.start();
  const [one, two] = fleet.all as [(typeof fleet.all)[0], (typeof fleet.all)[0]];
  const answers = (each: typeof one) =>
    fetch(each.url, { signal: AbortSignal.timeout(300) }).then(
      () => true,
      () => false,
    );

  await one.kill();
  const afterKill = [await answers(one), await answers(two), one.ended];
  await one.start();
  await two.pause();
  const whilePaused = [await answers(one), await answers(two)];
  await two.resume();
  const ended = await two.stop();

  assert.deepEqual(afterKill, [false, true, "SIGKILL"]);
  assert.deepEqual(whilePaused, [true, false]);
  assert.equal(ended, 7, "it decides how it ends");
});

test("kill takes the children of a process with it", async () => {
  await using one = await nodeProcess({ script, ready, env: { WITH_CHILD: "1" } });
  await one.start();
  const child = Number(/child (\d+)/.exec(one.log())?.[1]);

  await one.pause();
  await one.kill();

  assert.ok(child > 0 && !isAlive(child));
});

test("one that ends before it is ready, is not ready in time, or ignores being asked to stop is told from the others, with its output", async () => {
  const broken = await nodeProcess({ script, ready, env: { BROKEN: "the reason" } });
  const late = await nodeProcess({ script, ready: /never said/, startWithinMs: 700 });
  await using deaf = await nodeProcess({ script, ready, env: { DEAF: "1" }, stopWithinMs: 200 });
  await deaf.start();

  await assert.rejects(broken.start(), (error) => Fault.is(error, "testing.not-started") && /it ended \(3\)[^]*the reason/.test(error.message));
  await assert.rejects(late.start(), (error) => Fault.is(error, "testing.not-started") && /within 700 ms[^]*listens/.test(error.message));
  assert.equal(late.state, "stopped");
  assert.equal(await deaf.stop(), "SIGKILL");
  await assert.rejects(deaf.pause(), (error) => Fault.is(error, "testing.not-running"));
});
