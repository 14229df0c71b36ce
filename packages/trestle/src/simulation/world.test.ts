import assert from "node:assert/strict";
import { test } from "node:test";
import { sleep } from "../kernel/index.ts";
import { Network, type BrokenCall } from "./network.ts";
import { World, type Life } from "./world.ts";

const over = (world: World, ms: number) => {
  let reached = false;
  world.at(ms - world.nowMs, undefined, "reached", () => (reached = true));
  return world.run(() => reached);
};

async function walk(seed: string): Promise<{ readonly seen: string; readonly hash: string }> {
  const world = new World({ seed });
  let seen = "";
  for (const name of ["a", "b", "c"]) {
    world.host(name).boot((life) => {
      void (async () => {
        for (let step = 0; step < 5; step++) {
          await sleep(life.clock, life.random.next() < 0.5 ? 1 : 2);
          seen += name;
        }
      })();
    });
  }
  await world.run(() => false);
  return { seen, hash: world.hash };
}

test("one seed is one history, and another seed is another one", async () => {
  const [once, again, other] = [await walk("0x1"), await walk("0x1"), await walk("0x2")];

  assert.deepEqual(again, once);
  assert.equal(once.seen.length, 15);
  assert.notEqual(other.seen, once.seen);
  assert.notEqual(other.hash, once.hash);
});

test("what a crashed host waited for never comes, and its `finally` does not run", async () => {
  const world = new World({ seed: "crash" });
  const host = world.host("node");
  const said: string[] = [];
  const main = (life: Life) =>
    void (async () => {
      try {
        said.push(`up ${life.number}`);
        await sleep(life.clock, 10);
        said.push(`on ${life.number}`);
      } finally {
        said.push(`finally ${life.number}`);
      }
    })();
  host.boot(main);

  await over(world, 5);
  host.crash();
  host.boot(main);
  await world.run(() => false);

  assert.deepEqual(said, ["up 1", "up 2", "on 2", "finally 2"]);
});

test("a paused host does nothing, and then everything that came meanwhile, late by its own clock", async () => {
  const world = new World({ seed: "pause" });
  const host = world.host("node");
  const at: number[] = [];
  host.boot((life) => {
    life.clock.after(10, () => at.push(life.clock.monotonicMs()));
    life.clock.after(200, () => at.push(life.clock.monotonicMs()));
  });

  await over(world, 1);
  world.at(4, undefined, "pause", () => host.pause(100));
  await world.run(() => false);

  assert.deepEqual(at, [105, 200]);
});

test("clocks of hosts go apart: by a jump for the wall, by drift for both", async () => {
  const world = new World({ seed: "clocks" });
  const [steady, fast] = [world.host("steady"), world.host("fast")];
  const lives = [steady, fast].map((host) => host.boot(() => undefined)) as [Life, Life];
  fast.drift(0.1);
  fast.jumpWall(60_000);
  let firedAtMs = 0;
  lives[1].clock.after(1_100, () => (firedAtMs = world.nowMs));

  world.at(10_000, undefined, "end", () => undefined);
  await world.run(() => false);

  assert.equal(lives[0].clock.monotonicMs(), 10_000);
  assert.equal(lives[1].clock.monotonicMs(), 11_000);
  assert.equal(lives[1].clock.wallMs() - lives[0].clock.wallMs(), 61_000);
  assert.equal(Math.round(firedAtMs), 1_000);
});

test("a call ends with its answer, as refused by a host that is down, or as lost by one that dies on it or is cut off", async () => {
  const world = new World({ seed: "calls" });
  const network = new Network(world);
  const [client, server] = [world.host("client"), world.host("server")];
  const boot = () => server.boot(() => undefined);
  boot();
  const ends: string[] = [];
  const ask = async (life: Life, tookMs: number) => {
    try {
      ends.push(await network.call(life, server, { label: "ask" }, async (there) => (await sleep(there.clock, tookMs), "answer")));
    } catch (error) {
      ends.push((error as BrokenCall).how);
    }
  };
  client.boot((life) => {
    void (async () => {
      await ask(life, 1);
      world.at(50, undefined, "kill", () => server.crash());
      await ask(life, 100);
      await ask(life, 1);
      boot();
      network.disturb("server", "client", { cut: true });
      await ask(life, 1);
      network.heal();
      await ask(life, 1);
    })();
  });

  await world.run(() => false);

  assert.deepEqual(ends, ["answer", "lost", "refused", "lost", "answer"]);
});

test("an error that an event throws ends the run with it", async () => {
  const world = new World({ seed: "thrown" });
  world.at(1, undefined, "thrower", () => {
    throw new Error("out of an event");
  });

  await assert.rejects(
    world.run(() => false),
    /out of an event/,
  );
});
