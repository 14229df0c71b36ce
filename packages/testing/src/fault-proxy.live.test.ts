/**
 * Each fault as a client sees it, on connections that were open before it and on new ones.
 *
 * Runs alone: it bounds what a fault adds to an answer, in milliseconds.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Fault } from "trestle/kernel";
import { faultProxy, type FaultProxy } from "./fault-proxy.ts";

const open: { end(): unknown }[] = [];
after(async () => {
  for (const one of open) await one.end();
});

interface Echo {
  readonly port: number;
  readonly server: Server;
  /** What arrived, and how the server's side of its last connection ended. */
  readonly seen: { text: string; end: "open" | "fin" | "reset" };
}

/** Answers every line it gets. */
async function echo(): Promise<Echo> {
  const seen: Echo["seen"] = { text: "", end: "open" };
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    seen.end = "open";
    socket.on("data", (bytes) => {
      seen.text += String(bytes);
      socket.write(bytes);
    });
    socket.on("end", () => (seen.end = "fin"));
    socket.on("error", () => (seen.end = "reset"));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  open.push({
    end: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  });
  return { port: (server.address() as AddressInfo).port, server, seen };
}

interface Client {
  readonly socket: Socket;
  text: string;
  end: "open" | "fin" | string;
  say(text: string): Promise<number>;
  /** Resolves with the milliseconds until so much was heard. */
  hears(length: number, withinMs?: number): Promise<number>;
}

async function client(proxy: FaultProxy): Promise<Client> {
  const socket = connect({ host: proxy.host, port: proxy.port });
  open.push({ end: () => socket.destroy() });
  const self: Client = {
    socket,
    text: "",
    end: "open",
    async say(text) {
      const length = self.text.length + text.length;
      socket.write(text);
      return self.hears(length);
    },
    async hears(length, withinMs = 2_000) {
      const from = performance.now();
      while (self.text.length < length && self.end === "open" && performance.now() - from < withinMs) await sleep(2);
      return performance.now() - from;
    },
  };
  socket.on("data", (bytes) => (self.text += String(bytes)));
  socket.on("end", () => (self.end = self.end === "open" ? "fin" : self.end));
  socket.on("error", (error: NodeJS.ErrnoException) => (self.end = error.code ?? "error"));
  await once(socket, "connect").catch(() => undefined);
  return self;
}

async function pair() {
  const server = await echo();
  const proxy = await faultProxy({ to: { port: server.port }, seed: 7 });
  open.push({ end: () => proxy.close() });
  return { server, proxy, client: await client(proxy) };
}

const until = async (holds: () => boolean, what: string) => {
  for (const from = performance.now(); !holds(); await sleep(2)) assert.ok(performance.now() - from < 3_000, `never: ${what}`);
};

test("without a fault bytes and both kinds of end pass, and a megabyte arrives whole", async () => {
  const { server, proxy, client: one } = await pair();
  const megabyte = "x".repeat(1_200_000);

  one.socket.write(megabyte);
  await one.hears(megabyte.length);
  one.socket.end();
  await until(() => server.seen.end === "fin", "the server hears the end");
  await until(() => proxy.connections === 0, "the connection is gone");
  const other = await client(proxy);
  await other.say("a");
  other.socket.resetAndDestroy();
  await until(() => server.seen.end === "reset", "the server hears the reset");

  assert.equal(one.text, megabyte);
  assert.deepEqual(proxy.passed, { up: megabyte.length + 1, down: megabyte.length + 1 });
});

test("latency and jitter delay an open connection, in order, the same for the same seed, and end with heal", async () => {
  const { proxy, client: one } = await pair();
  await one.say("warm");

  proxy.latency({ ms: 60, jitterMs: 40, direction: "up" });
  const tookMs = await one.say("late");
  for (const letter of "in order") one.socket.write(letter);
  await one.hears("warmlatein order".length);
  await proxy.heal();
  const healedMs = Math.min(await one.say("so"), await one.say("o"), await one.say("n"));

  assert.ok(tookMs >= 55 && tookMs < 400, `${tookMs} ms`);
  assert.ok(healedMs < 40, `${healedMs} ms after heal`);
  assert.equal(one.text, "warmlatein ordersoon");
  assert.equal(proxy.seed, 7);
});

test("bandwidth is shared out over time: 20 kB at 50 kB/s need 400 ms one way", async () => {
  const { proxy, client: one } = await pair();

  proxy.bandwidth({ bytesPerSecond: 50_000, direction: "down" });
  one.socket.write("x".repeat(20_000));
  await one.hears(1);
  const halfwayMs = await one.hears(10_000);
  const restMs = await one.hears(20_000);

  assert.ok(halfwayMs > 100 && restMs > 100 && halfwayMs + restMs < 1_500, `${halfwayMs} and ${restMs} ms`);
  assert.equal(one.text.length, 20_000);
});

test("a partition in one direction holds what goes that way only, new connections wait, and heal lets all of it pass", async () => {
  const { server, proxy, client: one } = await pair();
  await one.say("1");

  proxy.partition("down");
  one.socket.write("2");
  const late = await client(proxy);
  late.socket.write("3");
  await until(() => server.seen.text.includes("2"), "the way up is open");
  await sleep(60);
  const heard = [one.text, late.text, one.end, server.seen.text];
  await proxy.heal();
  await Promise.all([one.hears(2), late.hears(1)]);

  assert.deepEqual(heard, ["1", "", "open", "12"]);
  assert.deepEqual([one.text, late.text], ["12", "3"]);
});

test("a partition holds a reset back too: the server learns of a dead client when it heals", async () => {
  const { server, proxy, client: one } = await pair();
  await one.say("1");

  proxy.partition();
  one.socket.resetAndDestroy();
  await sleep(60);
  const during = server.seen.end;
  await proxy.heal();
  await until(() => server.seen.end === "reset", "the server hears the reset");

  assert.equal(during, "open");
});

test("a black hole accepts and swallows: nobody hears, nobody is told, and heal resets what it swallowed from", async () => {
  const { server, proxy, client: one } = await pair();
  await one.say("1");

  proxy.blackHole();
  one.socket.write("lost");
  const late = await client(proxy);
  late.socket.write("lost too");
  await sleep(60);
  const during = [one.end, late.end, server.seen.text];
  await proxy.heal();
  await until(() => one.end !== "open" && late.end !== "open", "both are reset");
  const fresh = await client(proxy);
  await fresh.say("2");

  assert.deepEqual(during, ["open", "open", "1"]);
  assert.deepEqual([one.end, late.end], ["ECONNRESET", "ECONNRESET"]);
  assert.deepEqual([fresh.text, server.seen.text], ["2", "12"]);
});

for (const unaware of ["client", "server"] as const) {
  test(`half-open with the ${unaware} unaware: the other side is reset, the ${unaware} talks into nothing until heal`, async () => {
    const { server, proxy, client: one } = await pair();
    await one.say("1");

    proxy.halfOpen({ unaware });
    await until(() => (unaware === "client" ? server.seen.end : one.end) !== "open", "one side is cut");
    if (unaware === "client") one.socket.write("into nothing");
    await sleep(60);
    const during = [one.end, server.seen.end];
    const fresh = await client(proxy);
    await fresh.say("2");
    await proxy.heal();
    await until(() => one.end !== "open", "the client learns of it");

    assert.deepEqual(during, unaware === "client" ? ["open", "reset"] : ["ECONNRESET", "open"]);
    assert.equal(server.seen.text, "12");
  });
}

test("refuse turns new connections away and keeps open ones; heal accepts again on the same port", async () => {
  const { proxy, client: one } = await pair();

  await proxy.refuse();
  const refused = await client(proxy);
  await one.say("1");
  await proxy.heal();
  const accepted = await client(proxy);
  await accepted.say("2");

  assert.equal(refused.end, "ECONNREFUSED");
  assert.deepEqual([one.text, accepted.text], ["1", "2"]);
});

test("cutAfter lets exactly so many bytes through and resets both sides", async () => {
  const { server, proxy, client: one } = await pair();
  await one.say("before");

  proxy.cutAfter({ bytes: 5, direction: "up" });
  one.socket.write("0123456789");
  await until(() => one.end !== "open" && server.seen.end !== "open", "both sides are reset");

  assert.equal(server.seen.text, "before01234");
  assert.deepEqual([one.end, server.seen.end], ["ECONNRESET", "reset"]);
});

test("reset ends every open connection at once, and new ones are as good as before", async () => {
  const { server, proxy, client: one } = await pair();
  await one.say("1");

  proxy.reset();
  await until(() => one.end !== "open" && server.seen.end !== "open", "both sides are reset");
  const fresh = await client(proxy);
  await fresh.say("2");

  assert.equal(one.end, "ECONNRESET");
  assert.equal(fresh.text, "2");
});

test("redirect leads new connections elsewhere; a target that refuses is a reset", async () => {
  const { proxy, client: one } = await pair();
  const other = await echo();
  await one.say("1");

  proxy.redirect({ port: other.port });
  const moved = await client(proxy);
  await moved.say("2");
  await one.say("3");
  other.server.close();
  moved.socket.destroy();
  await once(other.server, "close");
  const nobody = await client(proxy);
  await until(() => nobody.end !== "open", "the client learns that nobody is there");

  assert.deepEqual([one.text, other.seen.text, nobody.end], ["13", "2", "ECONNRESET"]);
});

test("a proxy closes twice, and a URL keeps all but its host and port", async () => {
  const proxy = await faultProxy({ to: "postgres://user:secret@db.example:5432/name?sslmode=disable" });

  await proxy.close();
  await proxy.close();

  assert.equal(proxy.url, `postgres://user:secret@127.0.0.1:${proxy.port}/name?sslmode=disable`);
  await assert.rejects(faultProxy({ to: "somewhere" }), (error) => Fault.is(error, "testing.bad-option"));
  assert.throws(
    () => proxy.bandwidth({ bytesPerSecond: 0 }),
    (error) => Fault.is(error, "testing.bad-option"),
  );
});
