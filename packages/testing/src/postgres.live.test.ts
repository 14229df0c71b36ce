/** PostgreSQL as tests use it: what survives which end, and what a standby has. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import pg from "pg";
import { Fault } from "trestle/kernel";
import { postgres, type PostgresNode } from "./postgres.ts";
import { missing, pgbouncer } from "./servers.ts";

const skip = await missing("postgres", { managed: true });
const clients: pg.Client[] = [];
after(() => Promise.all(clients.map((client) => client.end().catch(() => undefined))));

async function session(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
  client.on("error", () => undefined);
  await client.connect();
  clients.push(client);
  return client;
}
async function ask(node: PostgresNode, query: string): Promise<unknown> {
  const client = await session(node.url);
  try {
    return Object.values((await client.query<Record<string, unknown>>(query)).rows[0] ?? {})[0];
  } finally {
    await client.end();
  }
}

test("what was committed survives kill -9 of every process, an orderly stop, and a restart, under one URL", { skip }, async () => {
  await using server = await postgres();
  const { url } = server;
  await ask(server, "create table kept as select 1 as n");

  await server.kill();
  await assert.rejects(session(url));
  await server.start();
  await ask(server, "insert into kept values (2)");
  await server.stop();
  await server.stop();
  await server.start();
  await server.restart();

  assert.equal(Number(await ask(server, "select sum(n) from kept")), 3);
  assert.equal(server.url, url);
  assert.match(server.log(), /database system was interrupted|not properly shut down/);
});

test("a paused server answers nobody and goes on where it stood; one killed in that state is as dead as any", { skip }, async () => {
  await using server = await postgres();
  const client = await session(server.url);

  await server.pause();
  await server.pause();
  let answered = false;
  const answer = client.query("select 1").then(() => (answered = true));
  await assert.rejects(new pg.Client({ connectionString: server.url, connectionTimeoutMillis: 200 }).connect());
  const whilePaused = [answered, server.state];
  await server.resume();
  await answer;
  await server.pause();
  await server.kill();

  assert.deepEqual(whilePaused, [false, "paused"]);
  assert.equal(server.state, "stopped");
  await assert.rejects(server.pause(), (error) => Fault.is(error, "testing.not-running"));
});

test("connections are as many as asked for, flushes as slow, and settings change while it runs", { skip }, async () => {
  await using server = await postgres({ connections: 5, flushDelayMs: 50, settings: { work_mem: "1MB" } });
  const held = await Promise.all([1, 2, 3, 4, 5].map(() => session(server.url)));
  const first = held[0] as pg.Client;

  await assert.rejects(session(server.url), /too many clients|sorry/);
  const fromMs = performance.now();
  await first.query("create table slow as select 1 as n");
  const slowMs = performance.now() - fromMs;
  await held[1]?.end();
  const before = await ask(server, "show work_mem");
  await server.configure({ work_mem: "2MB", commit_delay: 0 });

  assert.ok(slowMs >= 45, `${slowMs} ms`);
  assert.deepEqual([before, await ask(server, "show work_mem"), await ask(server, "show commit_delay")], ["1MB", "2MB", "0"]);
});

test("a synchronous standby has every acknowledged commit, makes the primary wait while it is cut off, and takes over when promoted", { skip }, async () => {
  await using server = await postgres({ standby: "synchronous" });
  const { standby } = server;
  await ask(server, "create table kept (n int)");
  await ask(server, "insert into kept values (1)");

  standby.replication.partition();
  let acknowledged = false;
  const waiting = ask(server, "insert into kept values (2)").then(
    () => (acknowledged = true),
    () => undefined,
  );
  await assert.rejects(ask(standby, "insert into kept values (3)"), /read-only/);
  const acknowledgedWhileCut = acknowledged;
  await server.kill();
  await waiting;
  await standby.promote();
  await standby.promote();

  assert.equal(acknowledgedWhileCut, false);
  assert.equal(await ask(standby, "select 1 from kept where n = 1"), 1);
  await ask(standby, "insert into kept values (4)");
});

test("an asynchronous standby that was cut off lacks what the primary acknowledged meanwhile, and survives its own kill -9", { skip }, async () => {
  await using server = await postgres({ standby: true });
  const { standby } = server;
  await ask(server, "create table kept as select 1 as n");
  const caughtUp = async () => {
    for (;;) if (await ask(standby, "select to_regclass('kept') is not null")) return;
  };
  await caughtUp();

  await standby.kill();
  await standby.start();
  standby.replication.partition();
  await ask(server, "insert into kept values (2)");
  await server.kill();
  await standby.promote();

  assert.equal(Number(await ask(standby, "select max(n) from kept")), 1);
  await server.start();
  assert.equal(Number(await ask(server, "select max(n) from kept")), 2, "the old primary still believes it is one");
});

test("a server without a standby says so, and one that cannot start shows its log", { skip }, async () => {
  await using server = await postgres();

  assert.throws(
    () => server.standby,
    (error) => Fault.is(error, "testing.no-standby"),
  );
  await assert.rejects(postgres({ settings: { work_mem: "not a size" } }), (error) => Fault.is(error, "testing.not-started") && /work_mem/.test(error.message));
  await assert.rejects(postgres({ flushDelayMs: 101 }), (error) => Fault.is(error, "testing.bad-option"));
});

test(
  "PgBouncer in transaction mode hands one server connection to many clients, and keeps them while the server behind it is away",
  { skip: skip || (await missing("pgbouncer", { managed: true })) },
  async () => {
    await using server = await postgres();
    await using pool = await pgbouncer({ to: server.url, poolSize: 1 });
    const [one, two] = [await session(pool.url), await session(pool.url)];
    const backend = async (client: pg.Client) => (await client.query<{ pid: number }>("select pg_backend_pid() as pid")).rows[0]?.pid;

    const pids = [await backend(one), await backend(two)];
    await server.kill();
    const waiting = backend(one);
    await server.start();

    assert.equal(pids[0], pids[1]);
    assert.equal(typeof (await waiting), "number", "a client waits at the pool until the server is back");
  },
);
