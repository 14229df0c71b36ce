/** What the simulator's model of PostgreSQL claims, shown by the server, each claim once; and nothing that the server shows is more than the model claims. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { faultProxy, missing, postgres, type PostgresServer } from "@trestle/testing";
import pg from "pg";
import { anomalies, PostgresModel, type Answer, type Look, type Step } from "trestle/simulation/postgres-model";
import { differential } from "./testing/differential.ts";
import { watchedSessions, type WatchedSessions } from "./testing/watched-sessions.ts";

const skip = await missing("postgres", { managed: true });
const seed = process.env["SEED"] ?? String(Date.now() % 1_000_000);

const begin: Step = { kind: "begin", level: "read committed" };
const beginAsynchronous: Step = { ...begin, asynchronous: true };
const add: Step = { kind: "add", key: "x", amount: 1 };
const read: Step = { kind: "read", key: "x" };
const scan: Step = { kind: "scan" };
const commit: Step = { kind: "commit" };

/** Does it to both, and answers what was seen; the model must allow it. */
async function both(model: PostgresModel, sessions: WatchedSessions, session: string, step: Step): Promise<Look> {
  const look = await sessions.step(session, step);
  assert.equal(model.saw(session, step, look), undefined);
  return look;
}
async function adds(model: PostgresModel, sessions: WatchedSessions, first: Step): Promise<Look> {
  await both(model, sessions, "a", first);
  await both(model, sessions, "a", add);
  return both(model, sessions, "a", commit);
}
async function reads(model: PostgresModel, url: string): Promise<Look> {
  await using sessions = await watchedSessions({ url, names: ["z"] });
  await both(model, sessions, "z", begin);
  return await both(model, sessions, "z", read); // before the session ends
}
/** As `add` leaves it after so many. */
const xIs = (value: number): Answer => ({ kind: "rows", rows: [["x", value]] });

test(
  `the server shows nothing that the model does not allow, in 300 random schedules of three sessions (seed ${seed})`,
  { skip, timeout: 120_000 },
  async (t) => {
    const { schedules, steps, choices, shown, problems } = await differential({ seed, schedules: 300 });

    t.diagnostic(`${schedules} schedules, ${steps} steps, ${choices} with a choice; ${JSON.stringify(shown)}; SEED=${seed} npm test -- postgres/src/anomalies`);
    assert.deepEqual(problems, [], problems.join("\n\n"));
    assert.equal(schedules, 300);
    for (const what of ["40001", "40P01", "23505", "25P02", "waiting", "answer after a wait"]) assert.ok((shown[what] ?? 0) > 0, `it never came to ${what}`);
  },
);

test("the server shows each anomaly that the model claims", { skip }, async (t) => {
  await using server = await postgres({ settings: { deadlock_timeout: "10ms" } });
  await using sessions = await watchedSessions({ url: server.url, names: ["a", "b", "c"] });

  for (const { name, rows, story } of anomalies)
    await t.test(name, async () => {
      const told = story.map(([, , look]) => look);
      let seen: Look[] = [];
      // Where the server has a choice (whom a deadlock ends) the story is told until it goes this way.
      for (let attempt = 0; attempt < 20 && seen.join() !== told.join(); attempt++) {
        await sessions.reset(rows);
        const model = new PostgresModel(rows);
        seen = [];
        for (const [session, step] of story) seen.push(await both(model, sessions, session, step));
      }
      assert.deepEqual(seen, told);
    });
});

test("kill -9 takes back asynchronous commits that were answered, and none that a synchronous one followed", { skip }, async () => {
  await using server = await postgres({ settings: { wal_writer_delay: "10s" } });
  const model = new PostgresModel({ x: 0 });
  {
    await using sessions = await watchedSessions({ url: server.url, names: ["a"] });
    await sessions.reset({ x: 0 });

    await adds(model, sessions, beginAsynchronous);
    await adds(model, sessions, begin);
    const last = await adds(model, sessions, beginAsynchronous);
    assert.equal(last, "a: committed");
    assert.equal(await reads(model, server.url), "z: x=3");
    await server.kill();
  }
  await server.start();
  model.crashed();

  assert.equal(await reads(model, server.url), "z: x=2", "the first asynchronous commit is older than a synchronous one, the last is not");
});

test("a commit whose connection breaks before its answer has happened, or has not: the two cannot be told apart there", { skip }, async () => {
  await using server = await postgres();
  await using network = await faultProxy({ to: server.url });
  const outcomes: Look[] = [];

  // What is lost is the commit on its way there, or its answer on the way back.
  for (const lost of ["up", "down"] as const) {
    const model = new PostgresModel({ x: 0 });
    await using sessions = await watchedSessions({ url: server.url, urls: { a: network.url }, names: ["a"] });
    await sessions.reset({ x: 0 });
    await both(model, sessions, "a", begin);
    await both(model, sessions, "a", add);
    network.partition(lost);
    sessions.send("a", commit);
    await sleep(100);
    network.reset();
    await network.heal();
    await gone(server, "rows");
    assert.equal(model.disconnected("a", commit), undefined);
    outcomes.push(await reads(model, server.url));
  }

  assert.deepEqual(outcomes, ["z: x=0", "z: x=1"]);
});

/** Resolves when no other session has a transaction on this table. */
async function gone(server: PostgresServer, table: string): Promise<void> {
  const client = new pg.Client({ connectionString: server.url });
  await client.connect();
  for (let open = 1; open > 0; await sleep(5)) {
    const { rows } = await client.query<{ open: number }>(
      "select count(*)::int as open from pg_locks where relation = $1::regclass and pid <> pg_backend_pid()",
      [table],
    );
    open = rows[0]?.open ?? 0;
  }
  await client.end();
}

test("a standby that is behind shows what was, never what is not; promoted, it has lost commits that were answered", { skip }, async () => {
  await using server = await postgres({ standby: "asynchronous" });
  const model = new PostgresModel({ x: 0 });
  const onStandby = async (): Promise<Look> => {
    await using standby = await watchedSessions({ url: server.standby.url, names: ["s"], readOnly: true });
    await standby.step("s", begin);
    return (await standby.step("s", scan)).replace("s: ", "");
  };
  const shows = async (value: number): Promise<void> => {
    for (const fromMs = performance.now(); (await onStandby().catch(() => "")) !== `x=${value}`; await sleep(20))
      assert.ok(performance.now() - fromMs < 10_000, `the standby never shows ${value}`);
    assert.equal(model.sawOnStandby(xIs(value)), undefined);
  };
  {
    await using sessions = await watchedSessions({ url: server.url, names: ["a"] });
    await sessions.reset({ x: 0 });
    await adds(model, sessions, begin);
    await shows(1);

    server.standby.replication.partition();
    await adds(model, sessions, begin);
    await adds(model, sessions, begin);
    const behind = await onStandby();
    assert.equal(model.sawOnStandby(xIs(1)), undefined);
    assert.equal(behind, "x=1", "both commits were answered");
    await server.standby.replication.heal();
    await shows(3);

    server.standby.replication.partition();
    assert.equal(await adds(model, sessions, begin), "a: committed");
    await server.kill();
  }
  await server.standby.promote();
  model.failedOver();

  assert.equal(await reads(model, server.standby.url), "z: x=3", "the fourth was answered, and is lost");
});

test("a synchronous standby has everything that was answered when it takes over", { skip }, async () => {
  await using server = await postgres({ standby: "synchronous" });
  const model = new PostgresModel({ x: 0 });
  {
    await using sessions = await watchedSessions({ url: server.url, names: ["a"] });
    await sessions.reset({ x: 0 });
    await adds(model, sessions, begin);
    model.replicated();
    await server.kill();
  }
  await server.standby.promote();
  model.failedOver();

  assert.equal(await reads(model, server.standby.url), "z: x=1");
});
