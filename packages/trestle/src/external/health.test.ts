import assert from "node:assert/strict";
import { after, test } from "node:test";
import { z } from "zod";
import { app, start, type Node } from "../app/index.ts";
import { Fault, virtualClock } from "../kernel/index.ts";
import { external, query, type HealthCheck } from "./index.ts";

const nodes: Node[] = [];
after(async () => {
  for (const node of nodes) await node.stop();
});
const token = "only-for-this-test";

async function watched(breaker: false | { readonly cooldown: "5s" } = false) {
  const clock = virtualClock();
  const world = { gone: false, askedAtMs: [] as number[] };
  const far = external(
    "far",
    { retry: false, breaker, timeout: "1s", health: { ask: "ping", input: {}, every: "10s", failures: 2 } },
    {
      ping: query({ input: z.object({}), returns: z.object({}) }, () => {
        world.askedAtMs.push(clock.monotonicMs());
        return world.gone ? Promise.reject(Fault.create("external.unreachable", "nobody is there", "Wait.")) : Promise.resolve({});
      }),
    },
  );
  const lines: Record<string, unknown>[] = [];
  const log = (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>);
  const node = await start(app("a", [far]), { store: "memory:", clock, log, settings: { TRESTLE_TOKEN: token } });
  nodes.push(node);
  const look = async (path: string) =>
    (await node.fetch(new Request(`http://localhost/_trestle/${path}`, { headers: { authorization: `Bearer ${token}` } }))).text();
  const status = async () => {
    const { dependencies } = JSON.parse(await look("status.json")) as {
      dependencies: readonly { name: string; breaker?: string; health: { status: string; failures: number; why?: string } }[];
    };
    return dependencies[0];
  };
  return { clock, world, node, far, lines, look, status };
}

test("[RES-12] a dependency is down after so many failed checks, which come later and later, and up after one that succeeds", async () => {
  const { clock, world, lines, look, status } = await watched();
  await clock.advance(100);
  assert.equal((await status())?.health.status, "up");
  await clock.advance(60_000);
  const whileUp = world.askedAtMs.length;
  assert.ok(whileUp >= 6 && whileUp <= 8, `${whileUp} checks in a minute, one every nine to ten seconds`);

  world.gone = true;
  while ((await status())?.health.failures === 0) await clock.advance(100);
  assert.equal((await status())?.health.status, "up", "one failure is none");
  await clock.advance(290_000);
  const down = await status();
  assert.deepEqual([down?.health.status, down?.health.why], ["down", "nobody is there"]);
  const pauses = world.askedAtMs.slice(whileUp).map((atMs, at, all) => atMs - (all[at - 1] ?? atMs));
  assert.ok(
    pauses.slice(1).every((ms) => ms >= 999.9 && ms <= 10_000.1),
    `from one second to every: ${pauses.join(" ")}`,
  );
  assert.ok(JSON.parse(await look("health/ready")).status === "ready", "a node is not taken out for it");
  assert.equal(JSON.parse(await look("health/ready")).dependencies, "down");
  assert.match(await look("metrics"), /^trestle_dependency_up\{component="far"\} 0$/m);

  world.gone = false;
  await clock.advance(10_000);
  assert.equal((await status())?.health.status, "up");
  assert.equal(JSON.parse(await look("health/ready")).dependencies, "up");
  assert.deepEqual(
    lines.filter(({ component }) => component === "far").map(({ level, message }) => `${String(level)} ${String(message)}`),
    ["warn its health check fails", "info its health check succeeds again"],
  );
});

test("a check is the probe that closes a breaker which is half-open, and is not made while it is open", async () => {
  const { clock, world, node, far, status } = await watched({ cooldown: "5s" });
  await clock.advance(100);
  world.gone = true;
  for (let call = 0; call < 20; call++)
    await node
      .open(far)
      .ping({})
      .catch(() => undefined);
  assert.equal((await status())?.breaker, "open");
  const before = world.askedAtMs.length;

  await clock.advance(4_000);
  assert.equal(world.askedAtMs.length, before);
  world.gone = false;
  await clock.advance(20_000);

  assert.deepEqual([(await status())?.breaker, (await status())?.health.status], ["closed", "up"]);
});

test("a node that stops asks no more", async () => {
  const { clock, world, node } = await watched();
  await clock.advance(100);
  await node.stop();
  const before = world.askedAtMs.length;

  await clock.advance(100_000);
  assert.equal(world.askedAtMs.length, before);
});

test("a check names a query of the external, in numbers that make sense", () => {
  const operations = { ping: query({ input: z.object({}), returns: z.object({}) }, () => Promise.resolve({})) };
  const declare = (health: object) => () => external("far", { health: { ask: "ping", input: {}, ...health } as HealthCheck<typeof operations> }, operations);

  assert.throws(declare({ ask: "pong" }), (fault) => Fault.is(fault, "external.no-such-query") && /"pong"/.test(fault.message));
  assert.throws(declare({ every: 5 }), (fault) => Fault.is(fault, "option.out-of-range") && /external "far": health\.every/.test(fault.message));
  assert.throws(declare({ failures: 0 }), (fault) => Fault.is(fault, "option.out-of-range") && /health\.failures/.test(fault.message));
});
