import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { seededRandom, uuidv7Ids, virtualClock } from "../kernel/index.ts";
import { commitIdRetentionMs, type Claims, type Commit, type CommitOutcome, type Expectation, type JobEnd, type Write } from "../store/index.ts";
import { openForWriting } from "./connection.ts";
import { openLane, type Lane, type LaneOptions } from "./lane.ts";
import { tailsMax } from "./lane-state.ts";
import { isFailure, type Operation, type Result } from "./operation.ts";
import { raiseTerm, Superseded } from "./term.ts";

const clock = virtualClock();
const ids = uuidv7Ids(clock, seededRandom("lane"));
const bytes = (text: string) => new TextEncoder().encode(text);
const commitOf = (writes: readonly Write[], expects: readonly Expectation[] = []): Commit => ({ id: ids.next(), expects, writes });
const put = (key: string, value = "x"): Write => ({ kind: "put", key, value: bytes(value) });
const sql = (text: string): Write => ({ kind: "sql", statement: { text, parameters: [] } });
const operation = (commit: Commit): Operation => ({ kind: "commit", commit });
const told = (result: Result): string => (isFailure(result) ? result.code : (result as CommitOutcome).ok ? "applied" : (result as { refused: string }).refused);

function withFile(name: string, run: (path: string) => void): void {
  const directory = mkdtempSync(join(tmpdir(), `trestle-lane-${name}-`));
  try {
    run(join(directory, "store.db"));
  } finally {
    rmSync(directory, { recursive: true });
  }
}
function withLane(run: (lane: Lane, path: string) => void, options: Partial<LaneOptions> = {}): void {
  withFile("file", (path) => {
    const lane = openLane({ open: () => openForWriting(path, "full"), ...options });
    try {
      run(lane, path);
    } finally {
      lane.close();
    }
  });
}
const apply = (lane: Lane, commits: readonly Commit[]) => lane.apply(commits.map(operation), clock.wallMs()).results.map(told);
const has = (lane: Lane, key: string) => lane.db.prepare("select 1 from trestle_records where key = ?").get(key) !== undefined;
const migrate = (lane: Lane, text: string) =>
  assert.deepEqual(lane.apply([{ kind: "migrate", component: "t", name: text.slice(0, 20), text, digest: text }], clock.wallMs()).results, [undefined]);

// ---- a batch is never half applied ----------------------------------------------------------------------------------------

test("[F5] INSERT OR ROLLBACK in the middle of a batch refuses its own commit; the others are applied, each whole", () => {
  withLane((lane) => {
    migrate(lane, "create table u (x unique); insert into u values (1)");
    const commits = [
      commitOf([put("a//1"), put("a//2")]),
      commitOf([put("b//1"), sql("insert or rollback into u values (1)"), put("b//2")]),
      commitOf([put("c//1"), put("c//2")]),
    ];

    assert.deepEqual(apply(lane, commits), ["applied", "statement", "applied"]);

    assert.deepEqual(
      ["a//1", "a//2", "b//1", "b//2", "c//1", "c//2"].map((key) => has(lane, key)),
      [true, true, false, false, true, true],
    );
    assert.deepEqual(apply(lane, commits), ["applied", "statement", "applied"], "and again under the same ids");
    assert.equal(lane.n, 2);
  });
});

test("[F5] RAISE(ROLLBACK) in a trigger of the user's does the same", () => {
  withLane((lane) => {
    migrate(lane, "create table u (x); create trigger no before insert on u begin select raise(rollback, 'not today'); end");

    assert.deepEqual(apply(lane, [commitOf([put("a//1")]), commitOf([put("b//1"), sql("insert into u values (1)")]), commitOf([put("c//1")])]), [
      "applied",
      "statement",
      "applied",
    ]);

    assert.deepEqual(
      ["a//1", "b//1", "c//1"].map((key) => has(lane, key)),
      [true, false, true],
    );
  });
});

test("[F5] a deferred foreign key that fails at COMMIT refuses its own commit only, also one made in the same batch", () => {
  withLane((lane) => {
    migrate(lane, "create table parent (x integer primary key); create table child (x references parent deferrable initially deferred)");
    const batch = () => [
      commitOf([put(`a//${ids.next()}`)]),
      commitOf([put("b//1"), sql("insert into child values (99)")]),
      commitOf([sql("insert into child values (7)"), sql("insert or ignore into parent values (7)")]),
    ];
    assert.deepEqual(apply(lane, batch()), ["applied", "statement", "applied"]);
    assert.deepEqual(has(lane, "b//1"), false);

    const made = [
      commitOf([put("c//1")]),
      commitOf([sql("create table later (x references parent deferrable initially deferred)"), sql("insert into later values (98)")]),
      commitOf([put("d//1")]),
    ];

    assert.deepEqual(apply(lane, made), ["applied", "statement", "applied"]);
    assert.deepEqual([has(lane, "c//1"), has(lane, "d//1")], [true, true]);
  });
});

test("[F5] a user's COMMIT is refused before it runs, and nothing of its batch becomes durable early", () => {
  withLane((lane, path) => {
    const seen: boolean[] = [];
    const other = new DatabaseSync(path, { readOnly: true });
    lane.db.function("look", () => {
      seen.push(other.prepare("select 1 from trestle_records").get() !== undefined);
      return 1;
    });

    const results = apply(lane, [commitOf([put("a//1")]), commitOf([sql("commit")]), commitOf([put("b//1"), sql("select look()")])]);

    assert.deepEqual(results, ["applied", "statement", "applied"]);
    assert.deepEqual(seen, [false]);
    other.close();
  });
});

test("[F5] an error in a commit that nothing could refuse leaves the others of its batch applied, each whole, and numbers without a gap", () => {
  withLane((lane) => {
    lane.db.exec("create trigger no before insert on trestle_records when new.key = 'b//2' begin select raise(abort, 'not this one'); end");
    const append: Write = { kind: "append", stream: "s//1", events: [{ id: ids.next(), type: "T", data: bytes("") }] };
    const commits = [
      commitOf([put("a//1"), append]),
      commitOf([put("b//1"), append, put("b//2")]),
      commitOf([put("c//1")], [{ kind: "stream", stream: "s//1", version: 1 }]),
    ];

    assert.deepEqual(apply(lane, commits), ["applied", "store.failed", "applied"]);

    assert.deepEqual(
      ["a//1", "b//1", "b//2", "c//1"].map((key) => has(lane, key)),
      [true, false, false, true],
    );
    assert.deepEqual(apply(lane, [commitOf([append], [{ kind: "stream", stream: "s//1", version: 1 }])]), ["applied"]);
    assert.deepEqual(
      lane.db
        .prepare("select n from trestle_commits order by n")
        .all()
        .map(({ n }) => n),
      [1, 2, 3],
    );
    assert.deepEqual(
      lane.db
        .prepare("select version, position from trestle_events order by position")
        .all()
        .map((row) => ({ ...row })),
      [
        { version: 1, position: 1 },
        { version: 2, position: 2 },
      ],
    );
  });
});

test("[F5] a commit that is refused leaves no row and no number, whether or not something was written before", () => {
  withLane((lane) => {
    const add = (amount: number): Write => ({ kind: "merge", key: "m//1", merge: { kind: "add", amount, min: 0 } });
    const stale: Expectation = { kind: "record", key: "a//1", version: 9 };
    const append: Write = { kind: "append", stream: "s//1", events: [{ id: ids.next(), type: "T", data: bytes("") }] };
    const at = (version: number): Expectation => ({ kind: "stream", stream: "s//1", version });
    const refused = [commitOf([put("b//1")], [stale]), commitOf([add(-1), put("b//2")]), commitOf([put("b//3"), append, add(-1)], [at(0)])];

    assert.deepEqual(apply(lane, [...refused, commitOf([put("c//1"), append], [at(0)]), ...refused]), [
      "conflict",
      "guard",
      "guard",
      "applied",
      "conflict",
      "guard",
      "conflict",
    ]);

    assert.deepEqual(
      ["b//1", "b//2", "b//3", "m//1", "c//1"].map((key) => has(lane, key)),
      [false, false, false, false, true],
    );
    assert.deepEqual([lane.n, lane.db.prepare("select count(*) c from trestle_commits").get()?.["c"]], [1, 1]);
  });
});

test("[F5] the store is full in the middle of a batch of 64, 50 times: each commit is whole or absent, and its caller knows which", () => {
  const random = seededRandom("full");
  let full = 0;
  for (let round = 0; round < 50; round++) {
    withFile("full", (path) => {
      const opened = openForWriting(path, "full");
      opened.exec(`pragma max_page_count = ${Number(opened.prepare("pragma page_count").get()?.["page_count"]) + 1 + Math.floor(random.next() * 60)}`);
      let first: DatabaseSync | undefined = opened;
      const lane = openLane({ open: () => [first, (first = undefined)][0] ?? openForWriting(path, "full") });
      const commits = Array.from({ length: 64 }, (_, i) =>
        commitOf([
          put(`a//${i}`, "x".repeat(100)),
          put(`b//${i}`, "y".repeat(Math.floor(random.next() * 9_000))),
          { kind: "append", stream: `s//${i}`, events: [{ id: ids.next(), type: "T", data: bytes("{}") }] },
        ]),
      );

      const results = apply(lane, commits);
      lane.close();

      const reopened = openLane({ open: () => openForWriting(path, "full") });
      results.forEach((result, i) => {
        assert.ok(result === "applied" || result === "store.disk-full", result);
        const parts = [
          has(reopened, `a//${i}`),
          has(reopened, `b//${i}`),
          reopened.db.prepare("select 1 from trestle_events where stream = ?").get(`s//${i}`) !== undefined,
        ];
        assert.deepEqual(parts, Array(3).fill(result === "applied"), `commit ${i} of round ${round} was told ${result}`);
      });
      full += results.filter((result) => result !== "applied").length;
      const positions = reopened.db
        .prepare("select position from trestle_events order by position")
        .all()
        .map((row) => row["position"]);
      assert.deepEqual(
        positions,
        positions.map((_, i) => i + 1),
        "positions have no gap",
      );
      reopened.close();
    });
  }
  assert.ok(full > 50, `the store was full for ${full} commits`);
});

for (const [what, committed] of [
  ["never reached the file", false],
  ["was durable all the same", true],
] as const) {
  test(`[F5] COMMIT fails on I/O and ${what}: the ids in the file decide, and every caller hears the truth`, () => {
    let failures = 1;
    const lied: string[] = [];
    withLane(
      (lane) => {
        apply(lane, [commitOf([put("before//1")])]);
        failures = 0;
        const commits = [
          commitOf([put("a//1"), { kind: "merge", key: "count//", merge: { kind: "add", amount: 1 } }]),
          commitOf([{ kind: "merge", key: "count//", merge: { kind: "add", amount: 1 } }]),
        ];

        assert.deepEqual(apply(lane, commits), ["applied", "applied"]);

        assert.equal(lied.length, 1);
        assert.equal(new TextDecoder().decode(lane.db.prepare("select value from trestle_records where key = 'count//'").get()?.["value"] as Uint8Array), "2");
        assert.deepEqual(apply(lane, commits), ["applied", "applied"], "the same outcomes under the same ids");
      },
      {
        seam: (db) => ({
          begin: () => db.exec("begin immediate"),
          commit() {
            if (failures++ !== 0) return db.exec("commit");
            lied.push("once");
            if (committed) db.exec("commit");
            throw Object.assign(new Error("disk I/O error"), { errcode: 1034 });
          },
          rollback: () => db.exec("rollback"),
        }),
      },
    );
  });
}

test("[F6] COMMIT fails on I/O again and again: a refusal is written under the id before the caller hears that it was not applied", () => {
  let broken = false;
  let commitsLeft = 0;
  withLane(
    (lane) => {
      const commit = commitOf([put("a//1")]);
      [broken, commitsLeft] = [true, 2];

      assert.deepEqual(apply(lane, [commit]), ["store.io-error"]);

      broken = false;
      assert.equal(has(lane, "a//1"), false);
      assert.deepEqual(apply(lane, [commit]), ["resolved"], "what the caller was told stays true");
    },
    {
      seam: (db) => ({
        begin: () => db.exec("begin immediate"),
        commit() {
          if (broken && commitsLeft-- > 0) throw Object.assign(new Error("disk I/O error"), { errcode: 1034 });
          db.exec("commit");
        },
        rollback: () => db.exec("rollback"),
      }),
    },
  );
});

test("[F6] when not even that can be written the caller hears commit.unknown, and asking again later decides it", () => {
  let broken = false;
  withLane(
    (lane) => {
      const commit = commitOf([put("a//1")]);
      broken = true;

      assert.deepEqual(apply(lane, [commit]), ["commit.unknown"]);

      broken = false;
      assert.deepEqual(lane.apply([{ kind: "resolve", id: commit.id }], clock.wallMs()).results.map(told), ["resolved"]);
      assert.deepEqual(apply(lane, [commit]), ["resolved"]);
    },
    {
      seam: (db) => ({
        begin: () => db.exec("begin immediate"),
        commit() {
          if (broken) throw Object.assign(new Error("disk I/O error"), { errcode: 1034 });
          db.exec("commit");
        },
        rollback: () => db.exec("rollback"),
      }),
    },
  );
});

test("[F14] a simulator can make `durable` a savepoint of its own: power loss takes back what was applied, whole commits at a time", () => {
  const db = openForWriting(":memory:", "full");
  db.exec("savepoint durable");
  const lane = openLane({
    open: () => db,
    seam: () => ({
      begin: () => db.exec("savepoint batch"),
      commit: () => db.exec("release batch"),
      rollback: () => db.exec("rollback to batch; release batch"),
    }),
  });
  assert.deepEqual(apply(lane, [commitOf([put("a//1")]), commitOf([put("b//1")], [{ kind: "record", key: "a//1", version: 0 }])]), ["applied", "conflict"]);
  db.exec("release durable; savepoint durable");
  assert.deepEqual(apply(lane, [commitOf([put("c//1")])]), ["applied"]);

  db.exec("rollback to durable");

  assert.deepEqual(
    ["a//1", "b//1", "c//1"].map((key) => has(lane, key)),
    [true, false, false],
  );
  lane.close();
});

// ---- numbers over retention ---------------------------------------------------------------------------------------------

test("[F10] positions and numbers go on after retention removed every event and commit row, also over a restart", () => {
  withFile("retention", (path) => {
    let lane = openLane({ open: () => openForWriting(path, "full") });
    const append = (stream: string): Write => ({ kind: "append", stream, events: [{ id: ids.next(), type: "T", data: bytes("") }] });
    apply(lane, [commitOf([append("s//1")]), commitOf([append("s//2")])]);
    apply(lane, [
      commitOf([
        { kind: "trim", stream: "s//1", upTo: 1 },
        { kind: "trim", stream: "s//2", upTo: 1 },
      ]),
    ]);
    const n = lane.n;
    lane.apply([{ kind: "tend" }], clock.wallMs() + commitIdRetentionMs + 3_600_001);
    assert.deepEqual(
      [lane.db.prepare("select count(*) c from trestle_events").get()?.["c"], lane.db.prepare("select count(*) c from trestle_commits").get()?.["c"]],
      [0, 0],
    );
    lane.close();

    lane = openLane({ open: () => openForWriting(path, "full") });
    apply(lane, [commitOf([append("s//3")])]);

    assert.equal(lane.n, n + 1);
    assert.deepEqual(
      lane.db
        .prepare("select position from trestle_events")
        .all()
        .map((row) => row["position"]),
      [3],
    );
    lane.close();
  });
});

test("a stream goes on from its tail, by version and by the commit that wrote it, whether the lane remembers the tail or has forgotten it", () => {
  withLane((lane) => {
    const append = (stream: number): Write => ({ kind: "append", stream: `s//${stream}`, events: [{ id: ids.next(), type: "T", data: bytes("") }] });
    const streams = Array.from({ length: tailsMax + 10 }, (_, stream) => stream);
    const first = streams.map((stream) => commitOf([append(stream)], [{ kind: "stream", stream: `s//${stream}`, version: 0 }]));
    assert.ok(apply(lane, first).every((outcome) => outcome === "applied"));

    const after = (stream: number, commit: number): Expectation => ({
      kind: "stream",
      stream: `s//${stream}`,
      version: 1,
      after: (first[commit] as Commit).id,
    });
    for (const stream of [0, tailsMax + 9]) {
      assert.deepEqual(apply(lane, [commitOf([append(stream)], [after(stream, 5)])]), ["conflict"], "another commit wrote it");
      assert.deepEqual(apply(lane, [commitOf([append(stream)], [after(stream, stream)]), commitOf([append(stream)], [after(stream, stream)])]), [
        "applied",
        "conflict",
      ]);
    }

    const versions = lane.db.prepare("select version from trestle_events where stream = ? order by version");
    for (const stream of [0, 1, tailsMax + 9])
      assert.deepEqual(
        versions.all(`s//${stream}`).map(({ version }) => version),
        stream === 1 ? [1] : [1, 2],
      );
  });
});

test("[EVS-01] an event can be changed or removed by nobody but retention", () => {
  withLane((lane) => {
    apply(lane, [commitOf([{ kind: "append", stream: "s//1", events: [{ id: ids.next(), type: "T", data: bytes("") }] }])]);

    assert.throws(() => lane.db.exec("update trestle_events set type = 'U'"), /immutable/);
    assert.throws(() => lane.db.exec("delete from trestle_events"), /immutable/);
    apply(lane, [commitOf([{ kind: "trim", stream: "s//1", upTo: 1 }])]);

    assert.equal(lane.db.prepare("select count(*) c from trestle_events").get()?.["c"], 0);
    assert.throws(
      () => (
        apply(lane, [commitOf([{ kind: "append", stream: "s//2", events: [{ id: ids.next(), type: "T", data: bytes("") }] }])]),
        lane.db.exec("delete from trestle_events")
      ),
      /immutable/,
      "maintenance has ended",
    );
  });
});

test("expired records, old commit rows and resolved ids go away in bounded steps that ride on batches", () => {
  withLane((lane) => {
    const startMs = clock.wallMs();
    const many = (count: number, write: (i: number) => Write) =>
      lane.apply(
        Array.from({ length: count }, (_, i) => operation(commitOf([write(i)]))),
        startMs,
      );
    many(400, (i) => ({ kind: "put", key: `e//${i}`, value: bytes("x"), expiresAtMs: startMs + 10, index: [{ field: "f", value: i }] }));
    lane.apply(
      Array.from({ length: 100 }, (): Operation => ({ kind: "resolve", id: ids.next() })),
      startMs,
    );
    const count = (table: string) => Number(lane.db.prepare(`select count(*) c from ${table}`).get()?.["c"]);
    const rows = () => [count("trestle_records"), count("trestle_entries"), count("trestle_commits"), count("trestle_resolved")];
    assert.deepEqual(rows(), [400, 400, 400, 100]);
    const laterMs = startMs + commitIdRetentionMs + 3_600_001;

    const steps: number[][] = [];
    for (let i = 0; i < 12; i++) {
      lane.apply([{ kind: "extend", claims: [], leaseMs: 1 }], laterMs);
      steps.push(rows());
    }

    assert.ok((steps[0]?.[0] ?? 0) >= 300, "a step is small");
    assert.deepEqual(steps.at(-1), [0, 0, 0, 0]);
  });
});

test("[F6] a clock that is set back by up to an hour makes no id good for a second time", () => {
  withLane((lane) => {
    const commit = commitOf([{ kind: "merge", key: "count//", merge: { kind: "add", amount: 1 } }]);
    const mintedMs = clock.wallMs();
    // Minted, then the clock went back by 59 minutes, then it was committed.
    const committedMs = mintedMs - 59 * 60_000;
    const submit = (nowMs: number) =>
      lane
        .apply([{ kind: "tend" }, operation(commit)], nowMs)
        .results.map((result) => result && told(result))
        .at(-1);
    assert.equal(submit(committedMs), "applied");

    const later = [1, 59, 61].map((minutes) => submit(committedMs + commitIdRetentionMs + minutes * 60_000));

    assert.deepEqual(later, ["applied", "applied", "resolved"], "its first outcome, until it is too old to be asked for");
    assert.equal(lane.n, 1);
  });
});

test("[F10] unchanged since a number that has been trimmed counts as changed", () => {
  withLane((lane) => {
    apply(lane, [commitOf([put("a//1")]), commitOf([put("b//1")])]);
    const laterMs = clock.wallMs() + commitIdRetentionMs + 3_600_001;
    lane.apply([{ kind: "tend" }], laterMs);
    const later = uuidv7Ids({ ...clock, wallMs: () => laterMs }, seededRandom("later"));
    const expecting = (since: number) =>
      lane.apply([operation({ id: later.next(), expects: [{ kind: "unchanged", prefix: "z//", since }], writes: [put("x//1")] })], laterMs).results.map(told);

    assert.deepEqual(expecting(1), ["conflict"]);
    assert.deepEqual(expecting(lane.n), ["applied"]);
  });
});

// ---- queue: crash and plans ------------------------------------------------------------------------------------------------

test("[F17] cell 15: after a crash running jobs are handed out again at once, under a higher fence, as heads of their keys; cancelled ones are not", () => {
  withFile("crash", (path) => {
    let lane = openLane({ open: () => openForWriting(path, "full") });
    const job = (name: string, key?: string): Write => ({
      kind: "enqueue",
      job: { id: ids.next(), queue: "q", payload: bytes(name), priority: 1, ...(key && { key }) },
    });
    const claim = (): { id: string; name: string; attempt: number; n: number }[] => {
      const [result] = lane.apply(
        [{ kind: "claim", request: { holder: "h", leaseMs: 3_600_000, queues: [{ queue: "q", limit: 10 }] } }],
        clock.wallMs(),
      ).results;
      return (result as Claims).jobs.map(({ id, payload, attempt, fence }) => ({ id, name: new TextDecoder().decode(payload), attempt, n: fence.n }));
    };
    apply(lane, [commitOf([job("k1", "k"), job("k2", "k"), job("stop")])]);
    const before = claim();
    assert.deepEqual(
      before.map(({ name }) => name),
      ["k1", "stop"],
    );
    apply(lane, [commitOf([{ kind: "cancel", job: (before[1] as { id: string }).id }])]);
    lane.db.close();

    lane = openLane({ open: () => openForWriting(path, "full") });
    const after = claim();

    assert.deepEqual(
      after.map(({ name, attempt }) => [name, attempt]),
      [["k1", 2]],
    );
    assert.ok((after[0]?.n ?? 0) > (before[0]?.n ?? Infinity));
    lane.close();
  });
});

test("[F10] a fence is never given twice, even when the claim was the last thing before the crash", () => {
  withFile("fence", (path) => {
    const fences: number[] = [];
    for (let i = 0; i < 3; i++) {
      const lane = openLane({ open: () => openForWriting(path, "full") });
      if (i === 0) apply(lane, [commitOf([{ kind: "enqueue", job: { id: ids.next(), queue: "q", payload: bytes(""), priority: 1 } }])]);
      const [result] = lane.apply([{ kind: "claim", request: { holder: "h", leaseMs: 1_000, queues: [{ queue: "q", limit: 1 }] } }], clock.wallMs()).results;
      fences.push((result as Claims).jobs[0]?.fence.n ?? -1);
      lane.db.close();
    }
    assert.deepEqual(
      fences,
      [...new Set(fences)].sort((a, b) => a - b),
    );
  });
});

test("the end of a job tells of its queue where another job may be claimed because of it, and wakes nobody where none may", () => {
  withLane((lane) => {
    const now = () => clock.wallMs();
    const ended = (
      enqueue: readonly Omit<Write & { kind: "enqueue" }, "kind">["job"][],
      policy?: { readonly concurrency: number },
      end = { kind: "done" } as JobEnd,
    ) => {
      apply(lane, [commitOf(enqueue.map((job) => ({ kind: "enqueue", job })))]);
      const request = { holder: "h", leaseMs: 1_000, queues: [{ queue: "q", limit: 1, ...(policy && { policy }) }] };
      const [job] = (lane.apply([{ kind: "claim", request }], now()).results[0] as Claims).jobs;
      assert.ok(job);
      const { queues } = lane.apply([operation(commitOf([{ kind: "finish", job: job.id, fence: job.fence, end }]))], now());
      for (const { id } of enqueue) apply(lane, [commitOf([{ kind: "cancel", job: id }])]);
      return queues;
    };
    const job = (more: { readonly key?: string; readonly group?: string } = {}) => ({ id: ids.next(), queue: "q", payload: bytes(""), priority: 1, ...more });

    assert.deepEqual(ended([job()]), []);
    assert.deepEqual(ended([job({ key: "k" })]), [], "nobody is behind it");
    assert.deepEqual(ended([job({ key: "k" }), job({ key: "k" })]), ["q"], "the next of its key");
    assert.deepEqual(ended([job(), job()], { concurrency: 1 }), ["q"], "a place under the limit");
    assert.deepEqual(ended([job({ group: "a" }), job({ group: "a" })]), ["q"], "a place of its group");
    assert.deepEqual(ended([job()], undefined, { kind: "retry", dueAtMs: now() + 1_000, error: "e" }), ["q"], "it falls due later");
    assert.deepEqual(ended([job({ key: "k" }), job({ key: "k" })], undefined, { kind: "parked", error: "e" }), [], "its key waits for a person");
  });
});

// ---- whose term is over ---------------------------------------------------------------------------------------------------

test("[F18] a writer that slept through its successor's election learns of it though that one is inside a transaction, and leaves its note alone", () => {
  withFile("term", (path) => {
    const first = openForWriting(path, "full");
    const lane = openLane({ open: () => first, term: raiseTerm(first) as number });
    const successor = openForWriting(path, "full");
    const did: string[] = [];
    lane.inTerm(() => did.push("in its term"));
    assert.equal(raiseTerm(successor), 2);
    successor.exec("begin immediate");

    assert.throws(() => apply(lane, [commitOf([put("a//late")])]), Superseded);
    successor.exec("rollback");
    assert.throws(() => lane.inTerm(() => did.push("in another's")), Superseded);

    assert.deepEqual([did, has(lane, "a//late")], [["in its term"], false]);
    lane.close();
    successor.close();
  });
});

test("a commit that meets another program's transaction on the file is refused by name, and may be submitted again", () => {
  withFile("busy", (path) => {
    const first = openForWriting(path, "full");
    const lane = openLane({ open: () => first, term: raiseTerm(first) as number });
    const other = new DatabaseSync(path, { timeout: 0 });
    other.exec("begin immediate");
    const commit = commitOf([put("a//1")]);

    assert.deepEqual(apply(lane, [commit]), ["store.in-use"]);
    other.exec("rollback");
    assert.deepEqual(apply(lane, [commit]), ["applied"]);

    other.close();
    lane.close();
  });
});

test("[F17] claims that stand next to each other in a batch hand out what they would hand out one after the other", () => {
  const nowMs = clock.wallMs();
  let compared = 0;
  for (let seed = 1; seed <= 60; seed++) {
    const random = seededRandom(`claims ${seed}`);
    const below = (most: number) => random.uint32() % most;
    const jobs = Array.from({ length: below(40) }, (): Write => ({
      kind: "enqueue",
      job: {
        id: ids.next(),
        queue: `q${below(2)}`,
        payload: bytes(""),
        priority: below(3),
        ...(below(3) === 0 && { key: `k${below(4)}` }),
        ...(below(4) === 0 && { startByMs: nowMs + 500 }), // too late when it is claimed: dead, and its key goes on
        ...(seed % 3 === 0 && below(3) === 0 && { group: `g${below(2)}` }),
        ...(below(6) === 0 && { dueAtMs: nowMs + 5_000 }),
      },
    }));
    const claims = Array.from({ length: 1 + below(8) }, (): Operation => ({
      kind: "claim",
      request: {
        holder: "h",
        leaseMs: 1_000,
        queues: Array.from({ length: 1 + below(2) }, () => ({
          queue: `q${below(2)}`,
          limit: below(7),
          ...(seed % 2 === 0 && below(3) === 0 && { policy: { concurrency: 4 + below(6) } }),
        })),
      },
    }));
    const claimedBy = (batches: readonly (readonly Operation[])[]) => {
      const lane = openLane({ open: () => openForWriting(":memory:", "full") });
      lane.apply([operation(commitOf(jobs))], nowMs);
      const all = batches.flatMap((batch) => lane.apply(batch, nowMs + 1_000).results as Claims[]);
      lane.close();
      return all.map((one) => ({ ...one, jobs: one.jobs.map(({ id, queue, attempt }) => ({ id, queue, attempt })) }));
    };

    const together = claimedBy([claims]);
    assert.deepEqual(together, claimedBy(claims.map((claim) => [claim])), `seed ${seed}`);
    compared += together.reduce((sum, one) => sum + one.jobs.length, 0);
  }
  assert.ok(compared > 300, `${compared} jobs were handed out`);
});

test("[F6] a transaction whose COMMIT fails on the disk is refused for good, as a commit of a batch is", () => {
  let failures = 0;
  const seam: LaneOptions["seam"] = (db) => ({
    begin: () => db.exec("begin immediate"),
    commit() {
      if (failures-- > 0) throw Object.assign(new Error("disk I/O error"), { errcode: 10 });
      db.exec("commit");
    },
    rollback: () => db.exec("rollback"),
  });
  withLane(
    (lane) => {
      const commit = commitOf([put("a//1")]);
      failures = 1;
      lane.begin(clock.wallMs());
      assert.throws(
        () => lane.end(commit),
        (fault: { code?: string }) => fault.code === "store.io-error",
      );
      assert.deepEqual([apply(lane, [commit]), has(lane, "a//1")], [["resolved"], false]);

      const unsure = commitOf([put("a//2")]);
      failures = 2; // the refusal cannot be written either
      lane.begin(clock.wallMs());
      assert.throws(
        () => lane.end(unsure),
        (fault: { code?: string }) => fault.code === "commit.unknown",
      );
    },
    { seam },
  );
});

/** A seam over the file whose parts fail while they are named. */
function failing(fails: ReadonlySet<"commit" | "rollback">): NonNullable<LaneOptions["seam"]> {
  const or = (name: "commit" | "rollback", run: () => void) => () => {
    if (fails.has(name)) throw Object.assign(new Error("disk I/O error"), { errcode: 10 });
    run();
  };
  return (db) => ({
    begin: () => db.exec("begin immediate"),
    commit: or("commit", () => db.exec("commit")),
    rollback: or("rollback", () => db.exec("rollback")),
  });
}

test("[F6] where COMMIT fails on I/O and the file cannot be opened again, nobody knows what became of a transaction until it can", () => {
  withFile("reopened", (path) => {
    const fails = new Set<"commit" | "rollback">();
    let gone = false;
    const open = () => {
      if (gone) throw Object.assign(new Error("unable to open database file"), { errcode: 14 });
      return openForWriting(path, "full");
    };
    const lane = openLane({ open, seam: failing(fails) });
    const commit = commitOf([put("a//1")]);
    lane.begin(clock.wallMs());
    fails.add("commit");
    gone = true;

    assert.throws(
      () => lane.end(commit),
      (fault: { code?: string }) => fault.code === "commit.unknown",
    );
    lane.abandon();
    assert.notEqual(apply(lane, [commit])[0], "applied");

    fails.clear();
    gone = false;
    assert.deepEqual(apply(lane, [commit]), ["applied"]);
    lane.close();
  });
});

test("[F5] what a batch has committed before the file was lost to it stays told as committed", () => {
  withFile("lost", (path) => {
    const fails = new Set<"commit" | "rollback">(["rollback"]);
    let gone = false;
    const open = () => {
      if (gone) throw Object.assign(new Error("unable to open database file"), { errcode: 14 });
      return openForWriting(path, "full");
    };
    const lane = openLane({ open, seam: failing(fails) });
    gone = true;

    const wrong: Operation = { kind: "migrate", component: "t", name: "1.sql", text: "create nonsense", digest: "1" };
    const { results } = lane.apply([operation(commitOf([put("a//1")])), wrong, operation(commitOf([put("a//2")]))], clock.wallMs());

    assert.deepEqual(results.map(told), ["applied", "sql.migration-failed", "store.failed"]);
    fails.clear();
    gone = false;
    assert.deepEqual([apply(lane, [commitOf([put("a//3")])]), has(lane, "a//1"), has(lane, "a//2")], [["applied"], true, false]);
    lane.close();
  });
});

test("[F5] a transaction whose COMMIT finds the disk full left nothing, and its id may be used again", () => {
  let fullFor = 0;
  withLane(
    (lane) => {
      const commit = commitOf([put("a//1")]);
      fullFor = 2; // nothing can be written meanwhile, a refusal neither
      lane.begin(clock.wallMs());
      assert.throws(
        () => lane.end(commit),
        (fault: { code?: string }) => fault.code === "store.disk-full",
      );
      lane.abandon();
      fullFor = 0;
      assert.deepEqual([has(lane, "a//1"), apply(lane, [commit]), has(lane, "a//1")], [false, ["applied"], true]);
    },
    {
      seam: (db) => ({
        begin: () => db.exec("begin immediate"),
        commit() {
          if (fullFor-- > 0) throw Object.assign(new Error("database or disk is full"), { errcode: 13 });
          db.exec("commit");
        },
        rollback: () => db.exec("rollback"),
      }),
    },
  );
});

for (const [what, committed] of [
  ["never reached the file", false],
  ["was durable all the same", true],
] as const) {
  test(`[F6] a transaction of SQL alone, whose COMMIT fails on I/O and ${what}: its id in the file decides what its caller hears`, () => {
    let fails = false;
    const seam: LaneOptions["seam"] = (db) => ({
      begin: () => db.exec("begin immediate"),
      commit() {
        if (!fails) return db.exec("commit");
        fails = false;
        if (committed) db.exec("commit");
        throw Object.assign(new Error("disk I/O error"), { errcode: 1034 });
      },
      rollback: () => db.exec("rollback"),
    });
    withLane(
      (lane) => {
        migrate(lane, "create table u (x)");
        const commit = commitOf([]);
        fails = true;
        lane.begin(clock.wallMs());
        lane.execute({ text: "insert into u values (1)", parameters: [] });

        if (committed) assert.deepEqual(lane.end(commit).outcome, { ok: true, epoch: 1, n: 1 });
        else
          assert.throws(
            () => lane.end(commit),
            (fault: { code?: string }) => fault.code === "store.io-error",
          );

        assert.equal(lane.db.prepare("select count(*) c from u").get()?.["c"], committed ? 1 : 0);
        assert.deepEqual(lane.apply([{ kind: "resolve", id: commit.id }], clock.wallMs()).results.map(told), [committed ? "applied" : "resolved"]);
      },
      { seam },
    );
  });
}

test("[F6] a transaction whose only writes are SQL is known by its commit's id, also to the next lane on the file; a refused one leaves no row", () => {
  withFile("sql-alone", (path) => {
    let lane = openLane({ open: () => openForWriting(path, "full") });
    migrate(lane, "create table u (x)");
    const transaction = (commit: Commit) => {
      lane.begin(clock.wallMs());
      lane.execute({ text: "insert into u values (1)", parameters: [] });
      return lane.end(commit).outcome;
    };
    const resolve = (commit: Commit) => lane.apply([{ kind: "resolve", id: commit.id }], clock.wallMs()).results[0];
    const [before, alone, stale] = [commitOf([put("a//1")]), commitOf([]), commitOf([], [{ kind: "record", key: "a//1", version: 9 }])];
    apply(lane, [before]);

    assert.deepEqual(transaction(stale), { ok: false, refused: "conflict", keys: ["a//1"] });
    assert.deepEqual(transaction(alone), { ok: true, epoch: 1, n: 2 });
    assert.deepEqual(resolve(alone), { ok: true, epoch: 1, n: 2 });
    lane.close();
    lane = openLane({ open: () => openForWriting(path, "full") });

    assert.deepEqual(resolve(alone), { ok: true, epoch: 1, n: 2 });
    assert.deepEqual([told(resolve(stale) as Result), lane.n, lane.db.prepare("select count(*) c from u").get()?.["c"]], ["resolved", 2, 1]);
    const unchanged: Expectation = { kind: "unchanged", prefix: "a//", since: 1 };
    assert.deepEqual(apply(lane, [commitOf([put("b//1")], [unchanged])]), ["applied"], "its row names no key");
    assert.equal(lane.n, 3);
    lane.close();
  });
});

test("[F6] a transaction under an id that was applied before is refused, and what it did is undone", () => {
  withLane((lane) => {
    migrate(lane, "create table u (x)");
    const commit = commitOf([]);
    const transaction = () => {
      lane.begin(clock.wallMs());
      lane.execute({ text: "insert into u values (1)", parameters: [] });
      lane.end(commit);
    };
    transaction();

    assert.throws(transaction, (fault: { code?: string }) => fault.code === "transaction.refused");

    assert.deepEqual([lane.db.isTransaction, lane.n, lane.db.prepare("select count(*) c from u").get()?.["c"]], [false, 1, 1]);
  });
});
