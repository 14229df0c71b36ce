import assert from "node:assert/strict";
import { test } from "node:test";
import { Fault } from "../kernel/index.ts";
import {
  encode,
  decode,
  execute,
  journalKey,
  decodeJournal,
  refuse,
  type Component,
  type Invocation,
  type Journal,
  type NodeServices,
  type Work,
  type WorkContext,
} from "./index.ts";
import { testNode } from "./testing.ts";

const worker: Component = { kind: "queue", name: "worker" };
const value = (n: number) => encode(n, "test");
const number = (bytes: Uint8Array | undefined) => (bytes ? (decode(bytes) as number) : 0);

function durable<T>(node: NodeServices, run: (context: WorkContext, invocation: Invocation) => Promise<T>, more: Partial<Work<T>> = {}): Work<T> {
  return {
    node,
    component: worker,
    operation: "",
    mode: "durable",
    uses: undefined,
    id: "0197a1b2-0000-7000-8000-000000000001",
    timeoutMs: 10_000,
    run: (_uses, context, invocation) => run(context, invocation),
    conclude: () => ({ keep: true, end: "ok" }),
    ...more,
  };
}

async function journalOf(node: NodeServices, id = "0197a1b2-0000-7000-8000-000000000001"): Promise<Journal | undefined> {
  const [row] = await node.store.read.records([journalKey(id)]);
  return row && decodeJournal(row.value, row.version);
}

/** A run whose process dies inside the call: the promise never settles, and nothing after it happens. */
function crashing(): { readonly reached: Promise<void>; call(): Promise<never> } {
  let arrived!: () => void;
  const reached = new Promise<void>((resolve) => (arrived = resolve));
  return { reached, call: () => (arrived(), new Promise<never>(() => undefined)) };
}

test("[F16] a crash inside a call resumes there, with the same key, and finds everything before it as it was", async () => {
  const node = await testNode();
  await node.store.commit({ id: node.ids.next(), expects: [], writes: [{ kind: "put", key: "a//k", value: value(1) }] });
  const crash = crashing();
  const seen: { readonly key: string; readonly read: number; readonly id: string; readonly now: number; readonly random: number }[] = [];
  const handler = (call: () => Promise<string>) => async (context: WorkContext, invocation: Invocation) => {
    const read = number(await invocation.record("a//k"));
    invocation.put("a//staged", value(read + 1));
    const before = { read, id: context.newId(), now: context.now(), random: context.random() };
    const answer = await context.step("charge", ({ key }) => {
      seen.push({ key, ...before });
      return call();
    });
    invocation.put("a//answer", encode(answer, "test"));
    return answer;
  };

  void execute(durable(node, handler(crash.call)));
  await crash.reached;
  await node.store.commit({ id: node.ids.next(), expects: [], writes: [{ kind: "put", key: "a//k", value: value(99) }] });
  await node.clock.advance(5_000);
  const survivor = await testNode({ store: node.store, clock: node.clock, seed: "another process" });
  const ended = await execute(
    durable(
      survivor,
      handler(() => Promise.resolve("paid")),
      { attempt: 2, journal: await journalOf(node) },
    ),
  );

  assert.deepEqual(ended, { kind: "answered", answer: "paid" });
  assert.equal(seen.length, 2);
  assert.deepEqual(seen[0], seen[1]);
  assert.equal(seen[0]?.read, 1);
  const [staged, answer, journal] = await node.store.read.records(["a//staged", "a//answer", journalKey("0197a1b2-0000-7000-8000-000000000001")]);
  assert.deepEqual([number(staged?.value), answer && decode(answer.value), journal], [2, "paid", undefined]);
});

test("an answered call is not made again when the handler is run again", async () => {
  const node = await testNode();
  let calls = 0;
  const handler = (fail: boolean) => async (context: WorkContext) => {
    const answer = await context.step("mail", () => Promise.resolve(++calls));
    if (fail) throw new Error("after the call");
    return answer;
  };

  const failed = await execute(durable(node, handler(true), { fail: () => ({ keep: false, end: "fault", journal: "save" }) }));
  const again = await execute(durable(node, handler(false), { attempt: 2, journal: await journalOf(node) }));

  assert.equal(failed.kind, "failed");
  assert.deepEqual([again, calls], [{ kind: "answered", answer: 1 }, 1]);
});

test("the answer of a call is durable a moment after it came, though the handler goes on", async () => {
  const node = await testNode();
  let release!: () => void;
  const going = new Promise<void>((resolve) => (release = resolve));

  const running = execute(
    durable(node, async (context) => {
      await context.step("mail", () => Promise.resolve("sent"));
      await going;
    }),
  );
  await node.clock.advance(1);
  await node.clock.advance(1);

  assert.deepEqual((await journalOf(node))?.segments[0]?.answer, { kind: "value", value: "sent" });
  release();
  assert.equal((await running).kind, "answered");
  assert.equal(await journalOf(node), undefined);
});

test("a handler that takes another way on replay faults, naming the difference", async () => {
  const node = await testNode();
  const crash = crashing();
  void execute(
    durable(node, async (context, invocation) => {
      await invocation.record("a//first");
      await context.step("charge", crash.call);
    }),
  );
  await crash.reached;

  const ended = await execute(
    durable(
      node,
      async (context, invocation) => {
        await invocation.record("a//second");
        await context.step("charge", () => Promise.resolve());
      },
      { attempt: 2, journal: await journalOf(node) },
    ),
  );

  assert.ok(ended.kind === "failed" && Fault.is(ended.fault, "handler.diverged"));
});

test("two runs of one invocation cannot both go on: the journal's version lets one through", async () => {
  const node = await testNode();
  const other = await testNode({ store: node.store, clock: node.clock, seed: "other" });
  const crash = crashing();
  void execute(durable(node, async (context) => void (await context.step("one", crash.call))));
  await crash.reached;
  const journal = () => journalOf(node);

  const results = await Promise.all(
    [node, other].map(async (on) =>
      execute(
        durable(
          on,
          async (context, invocation) => {
            await context.step("one", () => Promise.resolve(1));
            await context.step("two", () => Promise.resolve(2));
            invocation.put(`a//${on.ids.next()}`, value(1));
          },
          { attempt: 2, journal: await journal() },
        ),
      ),
    ),
  );

  assert.deepEqual(results.map(({ kind }) => kind).sort(), ["answered", "lost"]);
  assert.equal((await node.store.read.list({ prefix: "a//", order: "key", limit: 10 })).length, 1);
});

test("a conflict at the end runs the handler again, and the answered call is not repeated", async () => {
  const node = await testNode();
  let calls = 0;
  let disturbed = false;

  const ended = await execute(
    durable(node, async (context, invocation) => {
      await context.step("charge", () => Promise.resolve(++calls));
      const before = number(await invocation.record("a//k"));
      if (!disturbed) {
        disturbed = true;
        await node.store.commit({ id: node.ids.next(), expects: [], writes: [{ kind: "put", key: "a//k", value: value(41) }] });
      }
      invocation.put("a//k", value(before + 1));
    }),
  );

  assert.equal(ended.kind, "answered");
  assert.deepEqual([calls, node.attempts, number((await node.store.read.records(["a//k"]))[0]?.value)], [1, [2], 42]);
});

test("[F9] a fault of an attempt that saw two values which never stood together is not believed", async () => {
  const node = await testNode();
  const put = (a: number, b: number) =>
    node.store.commit({
      id: node.ids.next(),
      expects: [],
      writes: [
        { kind: "put", key: "a//x", value: value(a) },
        { kind: "put", key: "a//y", value: value(b) },
      ],
    });
  await put(50, 50);
  let moved = false;

  const ended = await execute({
    ...durable(node, async (_context, invocation) => {
      const x = number(await invocation.record("a//x"));
      if (!moved) {
        moved = true;
        await put(0, 100);
      }
      const y = number(await invocation.record("a//y"));
      if (x + y !== 100) throw new Error(`money was made: ${x} + ${y}`);
      return x + y;
    }),
    mode: "write",
  });

  assert.deepEqual(ended, { kind: "answered", answer: 100 });
});

test("[F9] a key that was absent when read and is there at commit is a conflict", async () => {
  const node = await testNode();
  let created = false;

  await execute({
    ...durable(node, async (_context, invocation) => {
      const there = await invocation.record("a//claimed");
      if (!created) {
        created = true;
        await node.store.commit({ id: node.ids.next(), expects: [], writes: [{ kind: "put", key: "a//claimed", value: value(1) }] });
      }
      if (!there) invocation.put("a//claimed", value(2));
    }),
    mode: "write",
  });

  assert.equal(number((await node.store.read.records(["a//claimed"]))[0]?.value), 1);
});

test("a refusal keeps nothing, and a throw keeps nothing", async () => {
  const node = await testNode();
  const writing = (end: () => unknown): Work<unknown> => ({
    ...durable(node, async (_context, invocation) => {
      invocation.put("a//k", value(1));
      return end();
    }),
    mode: "write",
    conclude: (answer) => ((answer as { ok?: boolean }).ok === false ? { keep: false, end: "refused" } : { keep: true, end: "ok" }),
  });

  await execute(writing(() => refuse("no")));
  await execute(
    writing(() => {
      throw new Error("no");
    }),
  );

  assert.deepEqual(await node.store.read.records(["a//k"]), [undefined]);
});

test("commitSeparately stays when the handler fails, and says why it is there", async () => {
  const node = await testNode();
  const ended = await execute(
    durable(node, async (context) => {
      await assert.rejects(
        context.commitSeparately(" ", {}, () => undefined),
        (fault) => Fault.is(fault, "commit.separate-without-reason"),
      );
      await assert.rejects(
        context.commitSeparately("to see", { x: {} }, () => undefined),
        (fault) => Fault.is(fault, "commit.not-a-handle"),
      );
    }),
  );
  assert.equal(ended.kind, "answered");
});

test("a handler that overruns its deadline ends there, and what it does later cannot be committed", async () => {
  const node = await testNode();
  let late: unknown;
  const running = execute(
    durable(
      node,
      async (context, invocation) => {
        await new Promise<void>((resolve) => context.signal.addEventListener("abort", () => resolve()));
        await node.clock.advance(0);
        try {
          invocation.put("a//late", value(1));
        } catch (fault) {
          late = fault;
        }
      },
      { timeoutMs: 100 },
    ),
  );

  await node.clock.advance(100);
  const ended = await running;
  await node.clock.advance(1);

  assert.ok(ended.kind === "failed" && Fault.is(ended.fault, "deadline.exceeded"));
  assert.ok(Fault.is(late, "handle.outlived-its-handler"));
});

test("a run that is out of time says so, also when what it had read has changed", async () => {
  const node = await testNode();
  const other = await testNode({ store: node.store, clock: node.clock, seed: "other" });
  let runs = 0;
  const running = execute(
    durable(
      node,
      async (_context, invocation) => {
        runs += 1;
        await invocation.record("a//1");
        await invocation.record("a//2");
        await other.store.commit({ id: other.ids.next(), expects: [], writes: [{ kind: "put", key: "a//1", value: value(runs) }] });
        await node.clock.advance(60);
        invocation.put("a//sum", value(runs));
      },
      { timeoutMs: 100, mode: "write" },
    ),
  );

  await assert.rejects(running, (fault) => Fault.is(fault, "deadline.exceeded") && /a\/\/1/.test((fault as Error).message));
  assert.equal(runs, 2);
});

test("[F16] a call whose outcome is unknown fails the run even when the handler swallows it, and nothing staged stays", async () => {
  const node = await testNode();

  const ended = await execute(
    durable(
      node,
      async (_context, invocation) => {
        await invocation
          .recoveryPoint({
            operation: "pay",
            key: "1",
            run: () => Promise.reject(Fault.create("external.outcome-unknown", "timed out", "wait")),
            isUnknown: () => true,
          })
          .catch(() => undefined);
        invocation.put("a//compensation", value(1));
      },
      {
        fail: (_fault, invocation) => ({
          keep: false,
          end: "fault",
          journal: "save",
          writes: [{ kind: "put", key: "a//parked", value: encode(invocation.unanswered?.operation ?? "none", "test") }],
        }),
      },
    ),
  );

  assert.ok(ended.kind === "failed" && Fault.is(ended.fault, "external.outcome-unknown"));
  const [compensation, parked] = await node.store.read.records(["a//compensation", "a//parked"]);
  assert.deepEqual([compensation, parked && decode(parked.value)], [undefined, "pay"]);
});

test("a tenant is a text that is not empty: any other is refused before the handler runs", async () => {
  const node = await testNode();
  let runs = 0;
  for (const tenant of ["", "\ud800", 7, null])
    await assert.rejects(execute(durable(node, async () => void runs++, { tenant: tenant as string })), (fault) => Fault.is(fault, "tenant.bad-name"));
  assert.equal(runs, 0);
});
