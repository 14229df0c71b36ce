/**
 * Random handlers over few hot keys and streams, on several nodes of one store, while commits are refused, lost on the way there or
 * back, delayed and overtaken, calls fail, and nodes die and are replaced by others that go on from the journal. Afterwards:
 * - every read-modify-write, append, merge and event of an invocation that ended well is there exactly once, those of a part that was
 *   discarded never: counters add up, lists hold each entry once;
 * - every event was decided on exactly the state before it, and an in-commit projection agrees with its stream;
 * - commits that wrote to two lists did so in one order, and no believed answer or fault saw two keys that never stood together;
 * - every call to the outside had one key per invocation and step, and no other call had that key;
 * - no handler was found to diverge, no journal is left, no turn is held.
 *
 * `FUZZ_SEED=<seed>` replays one; `FUZZ_RUNS` says how many.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { aggregate, command, projection } from "../events/index.ts";
import { Fault, seededRandom, systemClock, virtualClock, type Random } from "../kernel/index.ts";
import { openSqlite } from "../sqlite/index.ts";
import type { Commit, CommitOutcome, Store } from "../store/index.ts";
import {
  decode,
  decodeJournal,
  definitionOf,
  encode,
  execute,
  journalKey,
  type Component,
  type Ended,
  type Handle,
  type Invocation,
  type Work,
  type WorkContext,
} from "./index.ts";
import { testNode, type TestNode } from "./testing.ts";

const given = process.env["FUZZ_SEED"];
const seeds = given ? [given] : Array.from({ length: Number(process.env["FUZZ_RUNS"] ?? 250) }, (_, i) => `serial-${i}`);
const turn = () => new Promise<void>((resolve) => systemClock.soon(resolve));
const below = (random: Random, most: number) => Math.floor(random.next() * most);
const chance = (random: Random, likely: number) => random.next() < likely;

// ---- what handlers do -------------------------------------------------------------------------------------------------

const Entry = z.object({ by: z.string(), after: z.string() });
const ledger = aggregate(
  "ledger",
  { id: z.string(), events: { Noted: Entry }, initial: () => "nobody", evolve: { Noted: (_last, { by }) => by }, snapshotEvery: 4 },
  // A count would be the same whoever came before: what was decided on is who did.
  { note: command(z.object({ by: z.string() }), (last, { by }, emit) => emit.Noted({ by, after: last })) },
);
const tally = projection(
  "tally",
  { from: ledger, row: z.object({ n: z.int() }), when: "in-commit" },
  { creates: { Noted: () => ({ n: 1 }) }, updates: { Noted: ({ n }) => ({ n: n + 1 }) } },
);

type Action =
  | { readonly kind: "count" | "merge" | "append" | "note"; readonly on: number }
  /** Moves one from a counter to another; their sum never changes. */
  | { readonly kind: "move"; readonly on: number }
  /** To both lists: in one order. */
  | { readonly kind: "append-both" }
  /** Two commands on one id at once. */
  | { readonly kind: "note-twice" }
  | { readonly kind: "look" }
  | { readonly kind: "separately" };
interface Part {
  readonly actions: readonly Action[];
  /** Calls made at once behind the actions; each branch makes so many, one after the other. The last part has none. */
  readonly branches: readonly number[];
}
interface Op {
  readonly id: string;
  readonly name: string;
  readonly durable: boolean;
  readonly parts: readonly Part[];
  /** The last part is discarded. */
  readonly refuses: boolean;
  attempts: number;
}
const counters = 2;
const lists = 2;
const streams = 2;
const moved = 100;

function opOf(random: Random, index: number, id: string): Op {
  // Many short ones on one stream: each decides on what the one before it has staged.
  if (chance(random, 0.4))
    return { id, name: `op${index}`, durable: false, parts: [{ actions: [{ kind: "note", on: 0 }], branches: [] }], refuses: false, attempts: 0 };
  const durable = chance(random, 0.7);
  const actions = (): Action[] =>
    Array.from({ length: below(random, 4) }, (): Action => {
      const kinds = ["count", "merge", "append", "note", "note", "move", "append-both", "note-twice", "look", "separately"] as const;
      const kind = kinds[below(random, kinds.length)] as Action["kind"];
      return { kind, on: below(random, 2) } as Action;
    });
  const parts: Part[] = Array.from({ length: durable ? below(random, 3) : 0 }, () => ({
    actions: actions(),
    branches: Array.from({ length: 1 + below(random, 3) }, () => 1 + below(random, 2)),
  }));
  parts.push({ actions: actions(), branches: [] });
  return { id, name: `op${index}`, durable, parts, refuses: chance(random, 0.15), attempts: 0 };
}

// ---- the world --------------------------------------------------------------------------------------------------------

class World {
  readonly random: Random;
  readonly clock = virtualClock();
  readonly nodes: { node: TestNode; dead: boolean; die: () => void; death: Promise<"dead"> }[] = [];
  /** By key: which call it was, and how often it was made. */
  readonly calls = new Map<string, { readonly of: string; made: number }>();
  readonly keyOf = new Map<string, string>();
  store!: Store;
  rough = true;
  over = false;
  #nodes = 0;

  constructor(seed: string) {
    this.random = seededRandom(seed);
  }

  async open(): Promise<void> {
    this.store = await openSqlite({ path: ":memory:", clock: this.clock });
    await this.addNode();
    await this.addNode();
  }

  async addNode(): Promise<void> {
    const place = { dead: false, die: (): void => undefined, death: Promise.resolve<"dead">("dead"), node: undefined as unknown as TestNode };
    place.death = new Promise((resolve) => (place.die = () => ((place.dead = true), resolve("dead"))));
    const base = await testNode({ store: this.#mortal(place), clock: this.clock, seed: `node ${++this.#nodes} ${this.random.next()}` });
    const inCommit = definitionOf(tally).inCommit as NonNullable<ReturnType<typeof definitionOf>["inCommit"]>;
    place.node = { ...base, inCommit: (source) => (source === inCommit.source ? [inCommit] : []) };
    this.nodes.push(place);
  }

  async kill(): Promise<void> {
    const place = this.nodes.splice(below(this.random, this.nodes.length), 1)[0];
    place?.die();
    await this.addNode();
  }

  /** The store as one node reaches it: over a way on which things happen. */
  #mortal(place: { readonly dead: boolean }): Store {
    const { random, store } = this;
    const lag = async () => {
      if (this.rough && chance(random, 0.4)) for (let i = below(random, 6); i >= 0; i--) await turn();
    };
    const alive = async <T>(answer: T): Promise<T> => (place.dead ? new Promise<never>(() => undefined) : answer);
    const commit = async (one: Commit): Promise<CommitOutcome> => {
      // Dead before it was on its way, or while it was: then it may yet arrive.
      if (place.dead && chance(random, 0.5)) return new Promise(() => undefined);
      const fate = this.rough ? random.next() : 1;
      if (fate < 0.05) {
        // Its outcome is slow to come, so others build on it before it falls.
        for (let i = below(random, 8); i > 0; i--) await turn();
        return alive<CommitOutcome>({ ok: false, refused: "conflict", keys: [someKey(random, one)] });
      }
      if (fate < 0.09) throw await alive(Fault.create("commit.unknown", "lost on the way there", "resolve"));
      if (fate < 0.1) throw await alive(Fault.create("store.overloaded", "no room", "wait"));
      if (fate < 0.6) await lag();
      const outcome = await store.commit(one);
      await lag();
      if (fate < 0.24) throw await alive(Fault.create("commit.unknown", "lost on the way back", "resolve"));
      return alive(outcome);
    };
    const read = new Proxy(store.read, {
      get:
        (target, name) =>
        async (...asked: unknown[]) => {
          await lag();
          return alive(await (Reflect.get(target, name) as (...asked: unknown[]) => Promise<unknown>).apply(target, asked));
        },
    });
    return new Proxy(store, {
      get: (target, name) => {
        if (name === "commit") return commit;
        if (name === "read") return read;
        if (name === "resolve") return async (id: string) => alive(await target.resolve(id));
        return Reflect.get(target, name) as unknown;
      },
    });
  }

  /** A call to the outside: it may fail in three ways, and takes its time. */
  async call(op: Op, step: string, key: string): Promise<string> {
    const of = `${op.name} ${step}`;
    const known = this.calls.get(key);
    assert.ok(!known || known.of === of, `key ${key} was used for ${known?.of} and for ${of}`);
    assert.ok((this.keyOf.get(of) ?? key) === key, `${of} was called with two keys`);
    this.keyOf.set(of, key);
    const made = (known?.made ?? 0) + 1;
    this.calls.set(key, { of, made });
    for (let i = below(this.random, 5); i > 0; i--) await turn();
    const fate = this.rough ? this.random.next() : 1;
    if (fate < 0.06) throw Fault.create("external.outcome-unknown", `${of} timed out`, "ask");
    if (fate < 0.12) throw new Error(`${of} broke`);
    if (fate < 0.3) throw Fault.create("external.refused", `${of} declined`, "no", { details: { made } });
    return `yes ${made}`;
  }
}

function someKey(random: Random, commit: Commit): string {
  const keys = commit.expects
    .flatMap((one) => (one.kind === "record" ? [one.key] : one.kind === "stream" ? [one.stream] : []))
    .filter((key) => !key.startsWith("~"));
  return keys[below(random, keys.length)] ?? "a//0";
}

// ---- one operation ------------------------------------------------------------------------------------------------------

const number = (bytes: Uint8Array | undefined) => (bytes ? (decode(bytes) as number) : 0);
const entries = (bytes: Uint8Array | undefined) => (bytes ? (decode(bytes) as string[]) : []);
const doneKey = (op: Op) => `~request//fuzz/${op.name}`;

async function act(
  op: Op,
  action: Action,
  at: string,
  uses: { readonly ledger: Handle<typeof ledger> },
  context: WorkContext,
  invocation: Invocation,
): Promise<void> {
  const entry = `${op.name} ${at}`;
  switch (action.kind) {
    case "count":
      return invocation.put(`a//${action.on}`, encode(number(await invocation.record(`a//${action.on}`)) + 1, "fuzz"));
    case "merge":
      return invocation.merge(`m//${action.on}`, { kind: "add", amount: 1 });
    case "append":
      return invocation.put(`l//${action.on}`, encode([...entries(await invocation.record(`l//${action.on}`)), entry], "fuzz"));
    case "append-both": {
      const both = await Promise.all([invocation.record("b//0"), invocation.record("b//1")]);
      return both.forEach((bytes, i) => invocation.put(`b//${i}`, encode([...entries(bytes), entry], "fuzz")));
    }
    case "note": {
      const noted = await uses.ledger.note(`s${action.on}`, { by: entry });
      assert.ok(noted.ok);
      return;
    }
    case "note-twice": {
      const both = await Promise.all([uses.ledger.note("s0", { by: `${entry} first` }), uses.ledger.note("s0", { by: `${entry} second` })]);
      assert.ok(both.every(({ ok }) => ok));
      return;
    }
    case "move": {
      const from = number(await invocation.record("t//0"));
      const to = number(await invocation.record("t//1"));
      if (from + to !== moved) throw new Error(`torn: ${from} + ${to}`);
      const amount = action.on === 0 ? 1 : -1;
      invocation.put("t//0", encode(from - amount, "fuzz"));
      return invocation.put("t//1", encode(to + amount, "fuzz"));
    }
    case "look": {
      const [from, to] = await Promise.all([invocation.record("t//0"), invocation.record("t//1")]);
      if (number(from) + number(to) !== moved) throw new Error(`torn: ${number(from)} + ${number(to)}`);
      return;
    }
    case "separately":
      return context.commitSeparately("attempts are counted, whatever comes of them", { ledger: uses.ledger }, async ({ ledger }) => {
        const noted = await ledger.note("separate", { by: entry });
        assert.ok(noted.ok);
      });
  }
}

/** One call: its definite answers are decided on, everything else passes. */
async function callOnce(world: World, op: Op, step: string, invocation: Invocation): Promise<string> {
  try {
    return await invocation.recoveryPoint({
      operation: step,
      key: `${op.id}:${step}`,
      run: () => world.call(op, step, `${op.id}:${step}`),
      isUnknown: (fault) => Fault.is(fault, "external.outcome-unknown"),
    });
  } catch (fault) {
    if (!Fault.is(fault, "external.refused")) throw fault;
    return `declined ${String(fault.details["made"])}`;
  }
}

function workOf(world: World, op: Op, node: TestNode, attempt: number, journal: Work<unknown>["journal"]): Work<unknown> {
  const { random } = world;
  return {
    node,
    component: { kind: "queue", name: "fuzz" } as Component,
    operation: op.name,
    mode: op.durable ? "durable" : "write",
    uses: { ledger },
    id: op.id,
    attempt,
    timeoutMs: 20_000,
    journal,
    startedAtMs: 1_700_000_000_000,
    // As a job's claim or a request's token: a run that began before another one ended well must not begin anew.
    guard: () => ({ expects: [{ kind: "record", key: doneKey(op), version: 0 }], writes: [] }),
    async run(bound, context, invocation) {
      const uses = bound as { readonly ledger: Handle<typeof ledger> };
      for (const [p, part] of op.parts.entries()) {
        for (const [a, action] of part.actions.entries()) {
          if (world.rough && chance(random, 0.02)) throw new Error("injected");
          await act(op, action, `${p}.${a}`, uses, context, invocation);
        }
        if (p < op.parts.length - 1) {
          const answers = await Promise.all(
            part.branches.map(async (calls, b) => {
              const got: string[] = [];
              for (let c = 0; c < calls; c++) got.push(await callOnce(world, op, `${p}/${b}/${c}`, invocation));
              return got;
            }),
          );
          const id = invocation.newId();
          // The same id, and the same answers, on every run: a second row would be left behind.
          invocation.put(`answers//${op.name}/${p}/${id}`, encode(answers.flat(), "fuzz"));
        }
      }
    },
    conclude: () => ({
      keep: !op.refuses,
      end: op.refuses ? "refused" : "ok",
      writes: [{ kind: "put", key: doneKey(op), value: encode(attempt, "fuzz") }],
      expects: [{ kind: "record", key: doneKey(op), version: 0 }],
    }),
    fail: () => ({ keep: false, end: "fault", journal: "save" }),
  };
}

async function perform(world: World, op: Op): Promise<void> {
  for (;;) {
    await turn();
    const [done, row] = await world.store.read.records([doneKey(op), journalKey(op.id)]);
    if (done || world.over) return;
    const place = world.nodes[below(world.random, world.nodes.length)] as World["nodes"][number];
    const attempt = ++op.attempts;
    const running = execute(workOf(world, op, place.node, attempt, row && decodeJournal(row.value, row.version))).catch((fault: unknown): Ended<unknown> => ({
      kind: "failed",
      fault,
    }));
    // Taken over although it runs: its lease was over, and it does not know.
    const impatient =
      world.rough && chance(world.random, 0.1)
        ? (async () => {
            for (let i = 1 + below(world.random, 20); i > 0; i--) await turn();
            return "taken over" as const;
          })()
        : undefined;
    const ended = await Promise.race([running, place.death, ...(impatient ? [impatient] : [])]);
    if (typeof ended === "object" && ended.kind === "failed") {
      const { fault } = ended;
      const expected =
        fault instanceof Error &&
        (fault.message === "injected" ||
          fault.message.endsWith("broke") ||
          ["external.outcome-unknown", "store.overloaded", "commit.unknown", "commit.conflict", "deadline.exceeded"].some((code) =>
            Fault.is(fault, code as "commit.unknown"),
          ));
      if (!expected) throw fault;
    }
  }
}

// ---- what must hold -----------------------------------------------------------------------------------------------------

async function check(world: World, ops: readonly Op[]): Promise<void> {
  const read = async (key: string) => (await world.store.read.records([key]))[0]?.value;
  const kept = ops.flatMap((op) =>
    (op.refuses ? op.parts.slice(0, -1) : op.parts).flatMap((part, p) => part.actions.map((action, a) => ({ action, entry: `${op.name} ${p}.${a}`, op }))),
  );
  const of = (kind: Action["kind"], on?: number) =>
    kept.filter(({ action }) => action.kind === kind && (on === undefined || ("on" in action && action.on === on)));
  const same = (actual: readonly string[], expected: readonly { readonly entry: string }[], what: string) =>
    assert.deepEqual(actual.toSorted(), expected.map(({ entry }) => entry).toSorted(), what);

  for (let i = 0; i < counters; i++) {
    assert.equal(number(await read(`a//${i}`)), of("count", i).length, `counter ${i}: lost or doubled`);
    assert.equal(number(await read(`m//${i}`)), of("merge", i).length, `merged counter ${i}: lost or doubled`);
  }
  for (let i = 0; i < lists; i++) same(entries(await read(`l//${i}`)), of("append", i), `list ${i}`);
  const both = [entries(await read("b//0")), entries(await read("b//1"))] as const;
  same(both[0], of("append-both"), "both lists");
  assert.deepEqual(both[0], both[1], "two lists that are written together hold one order");
  assert.equal(number(await read("t//0")) + number(await read("t//1")), moved, "what is moved is neither made nor lost");
  for (const id of [...Array.from({ length: streams }, (_, i) => `s${i}`), "separate"]) {
    const rows = await world.store.read.stream(`ledger//${id}`, { after: 0, limit: 1_000 });
    const notes = rows.map(({ data }) => decode(data) as z.infer<typeof Entry>);
    assert.deepEqual(
      notes.map(({ after }) => after),
      notes.map((_, at) => notes[at - 1]?.by ?? "nobody"),
      `stream ${id}: every event was decided on the state before it`,
    );
    const row = await read(`tally//${id}`);
    assert.equal(row ? (decode(row) as { n: number }).n : 0, notes.length, `the projection agrees with stream ${id}`);
    if (id !== "separate")
      same(
        notes.map(({ by }) => by),
        [
          ...of("note", Number(id.slice(1))),
          ...(id === "s0" ? of("note-twice").flatMap(({ entry }) => ["first", "second"].map((which) => ({ entry: `${entry} ${which}` }))) : []),
        ],
        `stream ${id}`,
      );
    else
      for (const { entry, op } of of("separately")) {
        const times = notes.filter(({ by }) => by === entry).length;
        assert.ok(times >= 1 && times <= op.attempts, `${entry} was committed separately ${times} times in ${op.attempts} attempts`);
      }
  }
  const answers = await world.store.read.list({ prefix: "answers//", order: "key", limit: 1_000 });
  assert.equal(
    answers.length,
    ops.reduce((sum, op) => sum + Math.max(0, op.parts.length - (op.refuses ? 2 : 1)), 0),
    "one row of answers per group of calls",
  );
  for (const { key, value } of answers)
    assert.equal(
      entries(value).length,
      (ops.find(({ name }) => key.startsWith(`answers//${name}/`)) as Op).parts[Number(key.split("/")[3])]?.branches.reduce((sum, calls) => sum + calls, 0),
    );
  for (const op of ops)
    for (const [p, { branches }] of op.parts.entries())
      for (const [b, calls] of branches.entries())
        for (let c = 0; c < calls; c++) assert.ok(world.keyOf.has(`${op.name} ${p}/${b}/${c}`), "every call was made");
  assert.deepEqual(
    (await world.store.read.list({ prefix: "~journal/", order: "key", limit: 10 })).map(({ key }) => key),
    [],
    "no journal is left",
  );
  for (const { node } of world.nodes) {
    for (const key of ["a//0", "a//1", "t//0", "b//0", "ledger//s0", "ledger//s1"]) {
      const taker = { waitsFor: undefined };
      assert.equal(node.lane.takeTurn(key, taker), true, `the turn on ${key} is held by nobody`);
      node.lane.endTurn(key, taker);
      assert.equal(node.lane.stagedRecord(key) ?? node.lane.stagedStream(key), undefined, `nothing of ${key} is staged any more`);
    }
  }
}

async function run(seed: string): Promise<number> {
  const world = new World(seed);
  try {
    return await play(world, seed);
  } finally {
    world.over = true;
  }
}

async function play(world: World, seed: string): Promise<number> {
  await world.open();
  const { random, clock, store } = world;
  const ids = (await testNode({ store, clock, seed: `ids ${seed}` })).ids;
  await store.commit({ id: ids.next(), expects: [], writes: [{ kind: "put", key: "t//0", value: encode(moved, "fuzz") }] });
  const ops = Array.from({ length: 12 + below(random, 14) }, (_, index) => opOf(random, index, ids.next()));
  let pending = ops.length;
  let failed: unknown;
  for (const op of ops) {
    perform(world, op)
      .catch((fault: unknown) => (failed ??= fault))
      .finally(() => (pending -= 1))
      .catch(() => undefined);
    if (chance(random, 0.3)) await turn();
  }
  for (let turns = 0; pending > 0 && failed === undefined; turns++) {
    await turn();
    if (chance(random, 0.3)) await clock.advance(below(random, 60));
    if (world.rough && chance(random, 0.01)) await world.kill();
    // Nothing lasts for ever: in the end everything must come to rest.
    if (turns === 600) world.rough = false;
    assert.ok(
      turns < 6_000,
      `${pending} operations do not come to an end: ${ops
        .filter(({ attempts }) => attempts > 3)
        .map(({ name, attempts }) => `${name} (${attempts})`)
        .join(", ")}`,
    );
  }
  if (failed !== undefined) throw failed;
  world.rough = false;
  // What was taken over may still run, and finds that it is too late.
  for (let i = 0; i < 30; i++) {
    await turn();
    await clock.advance(1_000);
  }
  await check(world, ops);
  await store.close();
  return ops.length;
}

test("[F2] [F9] [F16] whatever happens on the way, invocations take effect once and in one order", async (t) => {
  let ops = 0;
  for (const seed of seeds) {
    try {
      ops += await run(seed);
    } catch (error) {
      throw new Error(`seed ${seed}: FUZZ_SEED=${seed} npm test -- packages/trestle/src/component/serializable.fuzz.test.ts`, { cause: error });
    }
  }
  t.diagnostic(`${seeds.length} seeds, ${ops} invocations`);
  assert.ok(ops >= seeds.length * 10);
});
