import assert from "node:assert/strict";
import { test } from "node:test";
import { sleep } from "../kernel/index.ts";
import { blocked } from "./blocked.ts";
import { carryOut } from "./fault-driver.ts";
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

test("whoever waits for less than a microsecond comes further, also on a clock that is fast", async () => {
  const world = new World({ seed: "least" });
  const host = world.host("node");
  host.drift(0.05);
  let turns = 0;
  host.boot((life) => {
    const again = () => void (++turns < 1_000 && life.clock.after(0.000_4, again));
    again();
  });

  await world.run(() => false);

  assert.equal(turns, 1_000);
  assert.ok(world.nowMs >= 0.9, `${world.nowMs} ms`);
});

test("on a slow processor one event at a time happens, and what comes meanwhile waits; afterwards nothing does", async () => {
  const world = new World({ seed: "slow" });
  const host = world.host("node");
  const at: number[] = [];
  const due = (life: Life, ms: number) => life.clock.after(ms, () => at.push(life.clock.monotonicMs()));
  const life = host.boot((life) => {
    for (const ms of [10, 10, 10, 12, 100, 100]) due(life, ms);
  });

  await over(world, 5);
  host.slowDown(5);
  await over(world, 50);
  host.slowDown(0);
  await world.run(() => false);

  assert.equal(life.alive, true);
  assert.deepEqual(at, [10, 15, 20, 25, 100, 100]);
});

test("a connection that was forgotten on the way does what it was asked, and its caller is told when that is over; others work meanwhile", async () => {
  const world = new World({ seed: "half-open" });
  const network = new Network(world);
  const [client, server] = [world.host("client"), world.host("server")];
  server.boot(() => undefined);
  const said: string[] = [];
  let done = 0;
  const ask = async (life: Life, name: string, tookMs: number) => {
    const how = await network
      .call(life, server, { label: name }, async (there) => (await sleep(there.clock, tookMs), ++done, "answered"))
      .catch((error: unknown) => (error as BrokenCall).how);
    said.push(`${name} ${how} ${world.nowMs > 5_000 ? "afterwards" : "before"}`);
  };
  client.boot((life) => {
    void ask(life, "first", 100);
    life.clock.after(60, () => void ask(life, "second", 100));
  });

  await over(world, 50);
  const end = network.forget("client", "*");
  await over(world, 5_000);
  const open = network.openCalls().map(({ from, to, label, sinceMs }) => `${from.name} ${to.name} ${label} ${sinceMs}`);
  end();
  await world.run(() => false);

  assert.deepEqual(said, ["second answered before", "first lost afterwards"]);
  assert.deepEqual(open, ["client#1 server first 0"]);
  assert.equal(done, 2);
  assert.deepEqual(network.openCalls(), []);
});

test("what a clogged host says and hears comes when it is over, and nothing of it is lost", async () => {
  const world = new World({ seed: "clog" });
  const network = new Network(world);
  const [one, other] = [world.host("node-1"), world.host("node-2")];
  for (const host of [one, other]) host.boot(() => undefined);
  const at: number[] = [];
  const lasting = [
    { atMs: 10, forMs: 990, kind: "clog", host: "node-1" },
    { atMs: 10, forMs: 1_990, kind: "clog", host: "node-2" },
  ] as const;
  carryOut(lasting, { world, network, at: { host: world.host("store") } as never, start: () => undefined });

  for (const [from, to] of [
    [one, other],
    [other, one],
  ] as const)
    world.at(20, undefined, "send", () => network.send(from, to, "word", () => at.push(world.nowMs)));
  await world.run(() => false);

  assert.equal(at.length, 2);
  assert.ok(
    at.every((ms) => ms >= 2_000 && ms < 2_010),
    at.join(),
  );
});

test("what waits is named: calls without an answer, clients in a call, timers", async () => {
  const world = new World({ seed: "blocked" });
  const network = new Network(world);
  const [client, idle, server] = [world.host("client-1"), world.host("client-2"), world.host("node-1")];
  server.boot((life) => void life.clock.after(30_000, () => undefined));
  client.boot((life) => void network.call(life, server, { label: "GET /never" }, () => new Promise(() => undefined)).catch(() => undefined));
  const waiting = idle.boot((life) => void life.clock.after(9_000, () => undefined));
  await over(world, 100);

  const lines = await blocked({ world, network, inCalls: new Map([[waiting, 4]]) });

  assert.deepEqual(lines, [
    "client-1#1 waits for node-1#1 to answer GET /never, since 0 s",
    "client-2#1 is in its call since 0.004 s and waits for a timer at 9 s",
    "client-2#1 has 1 timer, the next at 9 s",
    "node-1#1 has 1 timer, the next at 30 s",
  ]);
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
