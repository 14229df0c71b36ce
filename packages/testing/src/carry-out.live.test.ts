// Runs alone: it looks in the middle of faults that last a few hundred milliseconds.
import assert from "node:assert/strict";
import { createServer, connect, type AddressInfo } from "node:net";
import { once } from "node:events";
import { test } from "node:test";
import { Fault } from "trestle/kernel";
import type { FaultPlan } from "trestle/simulation";
import { carryOut, faultProxy, type LiveHost } from "./index.ts";

/** Writes down what is done to it, and when. */
function noted(said: string[]): LiveHost {
  const note = (what: string) => () => {
    said.push(what);
    return Promise.resolve();
  };
  return { start: note("start"), kill: note("kill"), pause: note("pause"), resume: note("resume") };
}

test("a plan is done to real hosts in its order, and what cannot be done is said", async () => {
  const said: string[] = [];
  const plan: FaultPlan = [
    { atMs: 10, forMs: 60, kind: "crash", host: "node-1" },
    { atMs: 30, forMs: 10, kind: "pause", host: "store" },
    { atMs: 0, forMs: 5, kind: "duplicate", from: "*", to: "*", share: 1 },
    { atMs: 0, forMs: 5, kind: "disk-full" },
  ];

  const { done, leftOut } = await carryOut(plan, { hosts: { "node-1": noted(said), store: noted(said) } });

  assert.deepEqual(said, ["kill", "pause", "resume", "start"]);
  assert.deepEqual(done.map(({ kind }) => kind).sort(), ["crash", "pause"]);
  assert.deepEqual(leftOut.map(({ fault }) => fault.kind).sort(), ["disk-full", "duplicate"]);
});

test("a host that the plan makes slow stands still again and again, and goes on when it is over", async () => {
  const said: string[] = [];

  await carryOut([{ atMs: 0, forMs: 100, kind: "slow-processor", host: "node-1", byMs: 1 }], { hosts: { "node-1": noted(said) } });

  assert.ok(said.length >= 4, said.join());
  assert.deepEqual(said.slice(0, 2), ["pause", "resume"]);
  assert.equal(said.at(-1), "resume");
});

test("a link that the plan cuts carries nothing until it is over, and then it does again", async (context) => {
  const echo = createServer((socket) => void socket.on("error", () => undefined).pipe(socket));
  context.after(() => echo.close());
  await once(echo.listen(0, "127.0.0.1"), "listening");
  await using proxy = await faultProxy({ to: { host: "127.0.0.1", port: (echo.address() as AddressInfo).port } });
  const ask = async (): Promise<string> => {
    const socket = connect(proxy.port, proxy.host);
    const answer = new Promise<string>((resolve) => {
      socket.once("data", (data: Buffer) => resolve(data.toString()));
      socket.once("error", () => resolve("broken"));
      setTimeout(() => resolve("nothing"), 100);
    });
    socket.write("hello");
    return answer.finally(() => socket.destroy());
  };
  const links = [{ from: "node-1", to: "store", proxy, direction: "up" as const }];

  const carried = carryOut([{ atMs: 0, forMs: 300, kind: "partition", from: "node-1", to: "store", bothWays: false, clogged: false }], { hosts: {}, links });
  await new Promise((resolve) => setTimeout(resolve, 30));
  const meanwhile = await ask();
  await carried;
  const afterwards = await ask();

  assert.notEqual(meanwhile, "hello");
  assert.equal(afterwards, "hello");
});

test("a plan that names a host which is not there is refused before anything is done", async () => {
  await assert.rejects(
    carryOut([{ atMs: 0, forMs: 1, kind: "crash", host: "node-9" }], { hosts: {} }),
    (fault) => Fault.is(fault, "testing.unknown-host") && /node-9/.test(fault.message),
  );
});

test("what a clogged host is told meanwhile comes when it is over", async (context) => {
  const echo = createServer((socket) => void socket.on("error", () => undefined).pipe(socket));
  context.after(() => echo.close());
  await once(echo.listen(0, "127.0.0.1"), "listening");
  await using proxy = await faultProxy({ to: { host: "127.0.0.1", port: (echo.address() as AddressInfo).port } });
  const socket = connect(proxy.port, proxy.host);
  socket.on("error", () => undefined);
  context.after(() => socket.destroy());
  const answer = once(socket, "data").then(([data]) => (data as Buffer).toString());
  const links = [{ from: "node-1", to: "store", proxy, direction: "up" as const }];

  const carried = carryOut([{ atMs: 0, forMs: 200, kind: "clog", host: "store" }], { hosts: {}, links });
  await new Promise((resolve) => setTimeout(resolve, 30));
  socket.write("hello");
  const early = await Promise.race([answer, new Promise((resolve) => setTimeout(() => resolve("nothing"), 100))]);
  await carried;

  assert.equal(early, "nothing");
  assert.equal(await answer, "hello");
});
