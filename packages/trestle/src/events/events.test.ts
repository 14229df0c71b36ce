import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { aggregate, app, command, Fault, projection, records, refuse, start } from "../index.ts";
import { virtualClock } from "../kernel/index.ts";

const Money = z.object({ cents: z.int().positive() });
const account = aggregate(
  "account",
  {
    id: z.string(),
    events: { Opened: z.object({ owner: z.string() }), Deposited: Money, Withdrawn: Money },
    initial: () => ({ open: false, cents: 0 }),
    evolve: {
      Opened: (state) => ({ ...state, open: true }),
      Deposited: (state, { cents }) => ({ ...state, cents: state.cents + cents }),
      Withdrawn: (state, { cents }) => ({ ...state, cents: state.cents - cents }),
    },
    snapshotEvery: 5,
  },
  {
    open: command(z.object({ owner: z.string() }), (state, input, emit) => (state.open ? undefined : emit.Opened(input))),
    deposit: command(Money, (_state, money, emit) => emit.Deposited(money)),
    withdraw: command(Money, (state, money, emit) => (state.cents >= money.cents ? emit.Withdrawn(money) : refuse("too-little", { left: state.cents }))),
  },
);
const balances = projection(
  "balances",
  { from: account, row: z.object({ id: z.string(), owner: z.string(), cents: z.int() }), when: "in-commit", index: ["owner"] },
  {
    creates: { Opened: ({ owner }, { key }) => ({ id: key, owner, cents: 0 }) },
    updates: { Deposited: (row, { cents }) => ({ ...row, cents: row.cents + cents }), Withdrawn: (row, { cents }) => ({ ...row, cents: row.cents - cents }) },
  },
);
const movements = projection(
  "movements",
  { from: account, row: z.object({ count: z.int() }) },
  {
    creates: { Opened: () => ({ count: 1 }) },
    updates: { Deposited: ({ count }) => ({ count: count + 1 }), Withdrawn: ({ count }) => ({ count: count + 1 }) },
  },
);
const notes = records("notes", { key: z.string(), value: z.object({ text: z.string(), by: z.string() }), index: ["by"] });
const counters = records("counters", { key: z.string(), value: z.number() });
const bank = app("bank", [account, balances, movements, notes, counters]);

const memory = () => start(bank, { store: "memory:", roles: ["worker"], clock: virtualClock(), log: () => undefined });

test("[EVS-01] the state of an aggregate is the fold of its events: opened, 200 in, 50 out, 150 left", async () => {
  await using node = await memory();
  const live = node.open(account);

  await live.open("123", { owner: "Ada" });
  await live.deposit("123", { cents: 200 });
  const withdrawn = await live.withdraw("123", { cents: 50 });

  assert.deepEqual(withdrawn, { ok: true, state: { open: true, cents: 150 }, version: 3 });
  assert.deepEqual(
    (await Array.fromAsync(live.history("123"))).map(({ type, version }) => `${version} ${type}`),
    ["1 Opened", "2 Deposited", "3 Withdrawn"],
  );
});

test("a refused command commits nothing, and says what its reader needs", async () => {
  await using node = await memory();
  const live = node.open(account);

  const refused = await live.withdraw("7", { cents: 1 });

  assert.deepEqual(refused, { ok: false, refused: "too-little", left: 0 });
  assert.equal((await Array.fromAsync(live.history("7"))).length, 0);
});

test("[EVS-02] a state as of a version or a moment is the fold up to there", async () => {
  const clock = virtualClock();
  await using node = await start(bank, { store: "memory:", roles: [], clock, log: () => undefined });
  const live = node.open(account);
  const moments: number[] = [];
  for (let i = 1; i <= 12; i++) {
    await live.deposit("a", { cents: i });
    moments.push(clock.wallMs());
    await clock.advance(1_000);
  }

  for (let i = 1; i <= 12; i++) {
    const sum = (i * (i + 1)) / 2;
    assert.equal((await live.get("a", { asOf: { version: i } })).cents, sum);
    assert.equal((await live.get("a", { asOf: moments[i - 1] as number })).cents, sum);
  }
});

test("an in-commit projection is readable in the commit that changes it, and lists newest first", async () => {
  await using node = await memory();

  const seen = await node.commit({ account, balances }, async ({ account, balances }) => {
    await account.open("a", { owner: "Ada" });
    await account.deposit("a", { cents: 5 });
    return balances.get("a");
  });
  await node.open(account).open("b", { owner: "Bob" });
  await node.open(account).open("c", { owner: "Ada" });

  assert.deepEqual(seen, { id: "a", owner: "Ada", cents: 5 });
  const first = await node.open(balances).list({ limit: 2 });
  assert.deepEqual(
    first.items.map(({ id }) => id),
    ["c", "b"],
  );
  const rest = await node.open(balances).list({ limit: 2, cursor: first.next });
  assert.deepEqual([rest.items.map(({ id }) => id), rest.next], [["a"], undefined]);
  assert.deepEqual(
    (await node.open(balances).list({ limit: 9, where: { owner: "Ada" } })).items.map(({ id }) => id),
    ["c", "a"],
  );
});

test("[EVS-04] a following projection ends with what its events say", async () => {
  await using node = await memory();
  for (let i = 0; i < 30; i++) {
    await node.open(account).open(`k${i % 3}`, { owner: "x" });
    await node.open(account).deposit(`k${i % 3}`, { cents: 1 });
  }

  await node.idle();

  assert.equal((await node.open(movements).get("k0"))?.count, 11);
});

test("a commit of several writes is made whole or not at all", async () => {
  await using node = await memory();

  await assert.rejects(
    node.commit({ account, notes }, async ({ account, notes }) => {
      await account.deposit("a", { cents: 1 });
      notes.put("n", { text: "hello", by: "ada" });
      throw new Error("no");
    }),
    /no/,
  );

  assert.equal((await node.open(account).get("a")).cents, 0);
  assert.equal(await node.open(notes).get("n"), undefined);
});

test("[F2] a guarded merge is judged at commit and never conflicts", async () => {
  await using node = await memory();
  await node.open(counters).add("stock", 10, { max: 10 });

  const takes = await Promise.allSettled(Array.from({ length: 15 }, () => node.open(counters).add("stock", -1, { min: 0 })));

  assert.equal(takes.filter(({ status }) => status === "fulfilled").length, 10);
  assert.ok(takes.every((take) => take.status === "fulfilled" || Fault.is(take.reason, "commit.guard-refused")));
  assert.equal(await node.open(counters).get("stock"), 0);
});

test("[F2] 64 callers on one aggregate each decide on the one before, in few attempts", async () => {
  await using node = await memory();

  await Promise.all(Array.from({ length: 64 }, () => node.open(account).deposit("hot", { cents: 1 })));

  assert.equal((await node.open(account).get("hot")).cents, 64);
});

test("[F2] 64 callers that read and write back one record lose no update", async () => {
  await using node = await memory();

  await Promise.all(
    Array.from({ length: 64 }, () =>
      node.commit({ notes }, async ({ notes }) => {
        const note = await notes.get("n");
        notes.put("n", { text: String(Number(note?.text ?? 0) + 1), by: "x" });
      }),
    ),
  );

  assert.equal((await node.open(notes).get("n"))?.text, "64");
});

test("a handle used after its handler has ended faults", async () => {
  await using node = await memory();

  const kept = await node.commit({ notes }, ({ notes }) => notes);

  assert.throws(
    () => kept.put("a", { text: "", by: "" }),
    (fault) => Fault.is(fault, "handle.outlived-its-handler"),
  );
});

test("a refusal that nobody looks at is a fault", async () => {
  await using node = await memory();

  await assert.rejects(
    node.commit({ account }, async ({ account }) => {
      await account.withdraw("a", { cents: 5 });
    }),
    (fault) => Fault.is(fault, "outcome.refusal-unread"),
  );
});
