/** Recovery points under concurrency, failure and replay: what is journalled is what the next run finds. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Fault, systemClock } from "../kernel/index.ts";
import type { Commit, CommitOutcome, Store } from "../store/index.ts";
import {
  decode,
  decodeJournal,
  encode,
  execute,
  journalKey,
  type Component,
  type Invocation,
  type Journal,
  type NodeServices,
  type Work,
  type WorkContext,
} from "./index.ts";
import { testNode, type TestNode } from "./testing.ts";

const worker: Component = { kind: "queue", name: "worker" };
const jobId = "0197a1b2-0000-7000-8000-000000000001";
const value = (n: unknown) => encode(n, "test");
const turn = () => new Promise<void>((resolve) => systemClock.soon(resolve));
const never = () => new Promise<never>(() => undefined);
const retried: Work<unknown>["fail"] = () => ({ keep: false, end: "fault", journal: "save" });

function durable<T>(node: NodeServices, run: (context: WorkContext, invocation: Invocation) => Promise<T>, more: Partial<Work<T>> = {}): Work<T> {
  return {
    node,
    component: worker,
    operation: "",
    mode: "durable",
    uses: undefined,
    id: jobId,
    timeoutMs: 10_000,
    run: (_uses, context, invocation) => run(context, invocation),
    conclude: () => ({ keep: true, end: "ok" }),
    ...more,
  };
}

async function journalOf(node: NodeServices): Promise<Journal | undefined> {
  const [row] = await node.store.read.records([journalKey(jobId)]);
  return row && decodeJournal(row.value, row.version);
}

async function read(node: NodeServices, key: string): Promise<unknown> {
  const [row] = await node.store.read.records([key]);
  return row && decode(row.value);
}

let survivors = 0;
/** The run of another process, after the first one died. */
async function resume<T>(node: TestNode, run: (context: WorkContext, invocation: Invocation) => Promise<T>, more: Partial<Work<T>> = {}) {
  const survivor = await testNode({ store: node.store, clock: node.clock, seed: `survivor ${++survivors}` });
  return execute(durable(survivor, run, { attempt: 2, journal: await journalOf(node), ...more }));
}

function storeThat(store: Store, commit: (commit: Commit, go: () => Promise<CommitOutcome>) => Promise<CommitOutcome>): Store {
  return new Proxy(store, {
    get: (target, name) => (name === "commit" ? (one: Commit) => commit(one, () => target.commit(one)) : (Reflect.get(target, name) as unknown)),
  });
}

test("what a handler writes while a call is open is refused, and never lost without a word", async () => {
  const node = await testNode();

  const ended = await execute(
    durable(
      node,
      async (context, invocation) => {
        await Promise.all(
          [1, 2, 3].map(async (n) => {
            await context.step(`charge ${n}`, () => Promise.resolve(n));
            invocation.put(`a//${n}`, value(n));
          }),
        );
      },
      { fail: retried },
    ),
  );

  assert.ok(ended.kind === "failed" && Fault.is(ended.fault, "handler.overlapping-call"), String(ended.kind));
  assert.match((ended.fault as Error).message, /charge/);
});

test("calls made at once, and then the writes that rest on their answers, are all there", async () => {
  const node = await testNode();
  const keys = new Set<string>();

  const ended = await execute(
    durable(node, async (context, invocation) => {
      const answers = await Promise.all(
        [1, 2, 3].map((n) =>
          context.step(`charge ${n}`, async ({ key }) => {
            keys.add(key);
            for (let i = 0; i < 4 - n; i++) await turn();
            return n;
          }),
        ),
      );
      for (const n of answers) invocation.put(`a//${n}`, value(n));
    }),
  );

  assert.deepEqual([ended.kind, keys.size], ["answered", 3]);
  assert.deepEqual(await Promise.all([1, 2, 3].map((n) => read(node, `a//${n}`))), [1, 2, 3]);
  assert.equal(await journalOf(node), undefined);
});

test("an answer that came while another recovery point was being committed is kept", async () => {
  const node = await testNode();
  const calls: string[] = [];
  const handler = (fail: boolean) => async (context: WorkContext) => {
    await Promise.all(
      ["a", "b"].map((name) =>
        context.step(name, async () => {
          calls.push(name);
          if (fail && name === "b") throw new Error("no");
        }),
      ),
    );
  };

  await execute(durable(node, handler(true), { fail: retried }));
  const ended = await resume(node, handler(false));

  assert.deepEqual([ended.kind, calls], ["answered", ["a", "b", "b"]]);
});

test("a commit that is refused by a guard keeps the answers of the calls before it", async () => {
  const node = await testNode();
  let calls = 0;
  const handler = (amount: number) => async (context: WorkContext, invocation: Invocation) => {
    await context.step("charge", async () => void (calls += 1));
    invocation.merge("a//stock", { kind: "add", amount, min: 0 });
  };

  const first = await execute(durable(node, handler(-1), { fail: retried }));
  const ended = await resume(node, handler(1));

  assert.ok(first.kind === "failed" && Fault.is(first.fault, "commit.guard-refused"));
  assert.deepEqual([ended.kind, calls], ["answered", 1]);
});

test("a guard that refuses at a recovery point is that fault, and the call is not made", async () => {
  const node = await testNode();
  let calls = 0;
  let failedWith: unknown;

  const ended = await execute(
    durable(
      node,
      async (context, invocation) => {
        invocation.merge("a//stock", { kind: "add", amount: -1, min: 0 });
        await context.step("charge", async () => void (calls += 1));
      },
      { fail: (fault) => ((failedWith = fault), { keep: false, end: "fault", journal: "save" }) },
    ),
  );

  assert.ok(ended.kind === "failed" && Fault.is(ended.fault, "commit.guard-refused"), ended.kind);
  assert.ok(Fault.is(failedWith, "commit.guard-refused"));
  assert.equal(calls, 0);
});

test("a refusal that nobody has looked at stops before the call to the outside", async () => {
  const node = await testNode();
  let calls = 0;

  const ended = await execute(
    durable(node, async (context, invocation) => {
      invocation.watchRefusal({ ok: false, refused: "out-of-stock" }, "reserve", true);
      await context.step("charge", async () => void (calls += 1));
    }),
  );

  assert.ok(ended.kind === "failed" && Fault.is(ended.fault, "outcome.refusal-unread"));
  assert.equal(calls, 0);
});

test("a step's failure that the handler has decided on is the same after a crash", async () => {
  const node = await testNode();
  let tries = 0;
  const handler = (after: () => Promise<void>) => async (context: WorkContext) => {
    const told = await context
      .step("tell", async () => {
        tries += 1;
        if (tries === 1) throw new TypeError("no route");
        return "told";
      })
      .catch((error: unknown) => `not told: ${(error as Error).name} ${(error as Error).message}`);
    await context.step(`note ${told}`, after);
    return told;
  };
  let reached!: () => void;
  const noting = new Promise<void>((resolve) => (reached = resolve));

  void execute(
    durable(
      node,
      handler(() => (reached(), never())),
    ),
  );
  await noting;
  const ended = await resume(
    node,
    handler(() => Promise.resolve()),
  );

  assert.deepEqual(ended, { kind: "answered", answer: "not told: TypeError no route" });
  assert.equal(tries, 1);
});

test("a step's failure that the handler let pass is tried again, also when it was wrapped on the way", async () => {
  const node = await testNode();
  let tries = 0;
  const handler = async (context: WorkContext) => {
    try {
      return await context.step("tell", async () => {
        tries += 1;
        if (tries === 1) throw new Error("no route");
        return "told";
      });
    } catch {
      await turn();
      throw new Error("could not tell");
    }
  };

  await execute(durable(node, handler, { fail: retried }));
  const ended = await resume(node, handler);

  assert.deepEqual([ended, tries], [{ kind: "answered", answer: "told" }, 2]);
});

test("a question whose fault the handler caught is answered by that fault on the next run", async () => {
  const node = await testNode();
  let asked = 0;
  const handler = (after: () => Promise<void>) => async (context: WorkContext, invocation: Invocation) => {
    const rate = await invocation
      .recall("rate", async () => {
        asked += 1;
        throw Fault.create("external.unreachable", "no rates today", "wait", { details: { status: 503 } });
      })
      .catch((fault: unknown) => (Fault.is(fault, "external.unreachable") ? fault.details["status"] : 0));
    await context.step("pay", after);
    return rate;
  };
  let reached!: () => void;
  const paying = new Promise<void>((resolve) => (reached = resolve));

  void execute(
    durable(
      node,
      handler(() => (reached(), never())),
    ),
  );
  await paying;
  const ended = await resume(
    node,
    handler(() => Promise.resolve()),
  );

  assert.deepEqual([ended, asked], [{ kind: "answered", answer: 503 }, 1]);
});

test("what a call's fault says of itself is the same after a crash", async () => {
  const node = await testNode();
  const handler = (after: () => Promise<void>) => async (context: WorkContext) => {
    const status = await context
      .step("pay", () => Promise.reject(Fault.create("external.refused", "declined", "another card", { details: { status: 402, body: () => undefined } })))
      .catch((fault: unknown) => (fault as Fault).details["status"]);
    await context.step(`note ${String(status)}`, after);
    return status;
  };
  let reached!: () => void;
  const noting = new Promise<void>((resolve) => (reached = resolve));

  void execute(
    durable(
      node,
      handler(() => (reached(), never())),
    ),
  );
  await noting;
  const ended = await resume(
    node,
    handler(() => Promise.resolve()),
  );

  assert.deepEqual(ended, { kind: "answered", answer: 402 });
});

test("answers known only in memory when a conflict runs the handler again are kept by whatever ends it", async () => {
  const node = await testNode();
  let calls = 0;
  let runs = 0;
  const handler = (fail: boolean) => async (context: WorkContext, invocation: Invocation) => {
    runs += 1;
    await context.step("charge", async () => void (calls += 1));
    if (runs === 1) throw invocation.supersede({ ok: false, refused: "conflict", keys: ["a//k"] });
    if (fail) throw new Error("second run");
  };

  await execute(durable(node, handler(true), { fail: retried }));
  const ended = await resume(node, handler(false));

  assert.deepEqual([ended.kind, runs, calls], ["answered", 3, 1]);
});

test("a conflict at one recovery point does not repeat a call that is still open at another", async () => {
  const node = await testNode();
  let release!: (answer: string) => void;
  const open = new Promise<string>((resolve) => (release = resolve));
  const calls: string[] = [];
  let runs = 0;

  const running = execute(
    durable(node, async (context, invocation) => {
      runs += 1;
      const slow = context.step("slow", () => (calls.push("slow"), open));
      if (runs > 1) return slow;
      slow.catch(() => undefined);
      while (calls.length === 0) await turn();
      throw invocation.supersede({ ok: false, refused: "conflict", keys: ["a//k"] });
    }),
  );
  for (let i = 0; i < 50 && runs < 2; i++) await turn();
  for (let i = 0; i < 5; i++) await turn();
  release("once");

  assert.deepEqual([await running, runs, calls], [{ kind: "answered", answer: "once" }, 2, ["slow"]]);
});

test("branches that each make one call after another are resumed whatever the order of the answers was", async () => {
  const node = await testNode();
  const calls: string[] = [];
  const handler = (slow: string, last: () => Promise<void>) => async (context: WorkContext) => {
    const answers = await Promise.all(
      ["x", "y"].map(async (item) => {
        await context.step(`charge ${item}`, async () => {
          calls.push(`charge ${item}`);
          for (let i = 0; i < (item === slow ? 10 : 0); i++) await turn();
        });
        return context.step(`mail ${item}`, async () => {
          calls.push(`mail ${item}`);
          return item;
        });
      }),
    );
    await context.step("end", last);
    return answers;
  };
  let reached!: () => void;
  const ending = new Promise<void>((resolve) => (reached = resolve));

  void execute(
    durable(
      node,
      handler("x", () => (reached(), never())),
    ),
  );
  await ending;
  const ended = await resume(
    node,
    handler("none", () => Promise.resolve()),
  );

  assert.deepEqual(ended, { kind: "answered", answer: ["x", "y"] });
  assert.deepEqual(calls, ["charge x", "charge y", "mail y", "mail x"]);
});

test("a branch that had not come as far as another when the process died goes on from where it was", async () => {
  const node = await testNode();
  const calls: string[] = [];
  const handler = (hang: boolean) => async (context: WorkContext) =>
    Promise.all(
      ["x", "y"].map(async (item) => {
        await context.step(`charge ${item}`, () => (calls.push(`charge ${item}`), hang && item === "x" ? never() : Promise.resolve()));
        return context.step(`mail ${item}`, () => (calls.push(`mail ${item}`), hang ? never() : Promise.resolve(item)));
      }),
    );

  void execute(durable(node, handler(true)));
  while (!calls.includes("mail y")) await turn();
  const ended = await resume(node, handler(false));

  assert.deepEqual(ended, { kind: "answered", answer: ["x", "y"] });
  assert.deepEqual(calls.toSorted(), ["charge x", "charge x", "charge y", "mail x", "mail y", "mail y"]);
});

test("a write that followed the last of several answers is made again when the run before had not committed it", async () => {
  const node = await testNode();
  const handler = (delays: readonly [number, number], end: () => Promise<void>) => async (context: WorkContext, invocation: Invocation) => {
    await Promise.all([
      (async () => {
        await context.step("slow", async () => {
          for (let i = 0; i < delays[0]; i++) await turn();
        });
        invocation.put("a//kept", value(1));
      })(),
      (async () => {
        for (let i = 0; i < delays[1]; i++) await turn();
        await context.step("late", () => Promise.resolve());
      })(),
    ]);
    await end();
  };
  let reached!: () => void;
  const ending = new Promise<void>((resolve) => (reached = resolve));

  void execute(
    durable(
      node,
      handler([60, 20], () => (reached(), never())),
    ),
  );
  await ending;
  for (let i = 0; i < 5; i++) await turn();
  const ended = await resume(
    node,
    handler([0, 20], () => Promise.resolve()),
  );

  assert.deepEqual([ended.kind, await read(node, "a//kept")], ["answered", 1]);
});

test("a handler may change what a call or a question answered without changing what the next run finds", async () => {
  const node = await testNode();
  const handler = (after: () => Promise<void>) => async (context: WorkContext, invocation: Invocation) => {
    const list = await context.step("list", () => Promise.resolve([1, 2, 3]));
    list.pop();
    const rows = await invocation.recall("rows", () => Promise.resolve([{ n: 1 }]));
    (rows[0] as { n: number }).n += 1;
    await context.step("mail", after);
    return [list, rows];
  };
  let reached!: () => void;
  const mailing = new Promise<void>((resolve) => (reached = resolve));

  void execute(
    durable(
      node,
      handler(() => (reached(), never())),
    ),
  );
  await mailing;
  const ended = await resume(
    node,
    handler(() => Promise.resolve()),
  );

  assert.deepEqual(ended, { kind: "answered", answer: [[1, 2], [{ n: 2 }]] });
});

test("an answer that no journal can keep is a fault that names the call, on the first run", async () => {
  const node = await testNode();

  const ended = await execute(durable(node, async (context) => context.step("open", () => Promise.resolve({ close: () => undefined }))));

  assert.ok(ended.kind === "failed" && Fault.is(ended.fault, "journal.not-storable") && /step open/.test(ended.fault.message));
});

test("a step that is made twice under one name has a key of its own each time", async () => {
  const node = await testNode();
  const keys: string[] = [];
  const handler = (end: () => Promise<void>) => async (context: WorkContext) => {
    for (const to of ["ada", "bob"]) await context.step("mail", async ({ key }) => void keys.push(`${to} ${key}`));
    await end();
  };
  let reached!: () => void;
  const ending = new Promise<void>((resolve) => (reached = resolve));

  void execute(
    durable(
      node,
      handler(() => (reached(), never())),
    ),
  );
  await ending;
  const ended = await resume(
    node,
    handler(() => Promise.resolve()),
  );

  assert.deepEqual([ended.kind, new Set(keys.map((text) => text.split(" ")[1])).size], ["answered", 2]);
});

test("a handler that ends before a call of its has been answered faults instead of forgetting the call", async () => {
  const node = await testNode();

  const ended = await execute(
    durable(
      node,
      async (context) => {
        void context.step("mail", never).catch(() => undefined);
        await turn();
        await turn();
      },
      { fail: retried },
    ),
  );

  assert.ok(ended.kind === "failed" && Fault.is(ended.fault, "handler.overlapping-call"), ended.kind);
  assert.equal((await journalOf(node))?.segments.length, 1);
});

test("after the deadline no further call is made", async () => {
  let hold: (() => void) | undefined;
  const plain = await testNode();
  const store = storeThat(plain.store, async (commit, go) => {
    if (commit.writes.some((write) => "key" in write && write.key === journalKey(jobId)) && hold === undefined)
      await new Promise<void>((resolve) => (hold = resolve));
    return go();
  });
  const node = await testNode({ store, clock: plain.clock });
  const calls: string[] = [];

  const running = execute(
    durable(node, (context) => Promise.all(["a", "b"].map((name) => context.step(name, async () => void calls.push(name)))), { timeoutMs: 100, fail: retried }),
  );
  while (hold === undefined) await turn();
  await plain.clock.advance(100);
  hold();
  const ended = await running;
  for (let i = 0; i < 5; i++) await turn();

  assert.ok(ended.kind === "failed" && Fault.is(ended.fault, "deadline.exceeded"));
  assert.deepEqual(calls, []);
});

test("[F6] a commit that turns out not to have been made is made again, not taken for a loss", async () => {
  const plain = await testNode();
  let lost = 0;
  const store = storeThat(plain.store, (_commit, go) => (lost++ === 0 ? Promise.reject(Fault.create("commit.unknown", "the cable was cut", "resolve")) : go()));
  const node = await testNode({ store, clock: plain.clock });

  const ended = await execute({ ...durable(node, async (_context, invocation) => invocation.put("a//k", value(1))), mode: "write" });

  assert.deepEqual([ended.kind, await read(node, "a//k")], ["answered", 1]);
});

test("a fault that the handler caught, went on from and threw in the end is not forgotten: what came after rests on it", async () => {
  const node = await testNode();
  let declined = 0;
  const handler = async (context: WorkContext) => {
    let fault: unknown;
    await context
      .step("pay", () => Promise.reject(Fault.create("external.refused", `declined ${++declined}`, "another card")))
      .catch((caught: unknown) => (fault = caught));
    await context.step("tell", () => Promise.resolve());
    throw fault;
  };

  await execute(durable(node, handler, { fail: retried }));
  const ended = await resume(node, handler, { fail: retried });

  assert.ok(ended.kind === "failed" && Fault.is(ended.fault, "external.refused"));
  assert.equal(declined, 1);
});

test("a handler that refuses on its next run before it has come to the call it made faults", async () => {
  const node = await testNode();
  let reached!: () => void;
  const charging = new Promise<void>((resolve) => (reached = resolve));

  void execute(durable(node, (context) => context.step("charge", () => (reached(), never()))));
  await charging;

  await assert.rejects(
    resume(node, () => Promise.resolve("refused"), { conclude: () => ({ keep: false, end: "refused" }) }),
    (fault) => Fault.is(fault, "handler.diverged"),
  );
});

test("beside an open call nothing is left to chance: time stands still as it will on the next run, and `random` is refused", async () => {
  const node = await testNode();
  const seen: (readonly number[])[] = [];
  let calls = 0;
  const handler = async (context: WorkContext) => {
    const call = (name: string) => context.step(name, async () => void (calls += 1));
    const began = context.now();
    await node.clock.advance(1_000);
    const both = [call("a"), call(`b at ${context.now()}`)];
    const beside = context.now();
    assert.throws(
      () => context.random(),
      (fault) => Fault.is(fault, "handler.overlapping-call"),
    );
    await Promise.all(both);
    seen.push([began, beside, context.now(), context.random()]);
    await call("c");
    if (seen.length === 1) throw new Error("the process dies");
  };

  await execute(durable(node, handler, { fail: retried }));
  const ended = await resume(node, handler);

  assert.equal(ended.kind, "answered", JSON.stringify(ended));
  assert.equal(calls, 3);
  assert.deepEqual(seen[1], seen[0]);
  const [began, beside, after] = seen[0] as readonly number[];
  assert.ok(beside === began && (after ?? 0) > (began ?? 0), `${seen[0]}`);
});
