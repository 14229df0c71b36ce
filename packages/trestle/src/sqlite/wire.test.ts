import assert from "node:assert/strict";
import { test } from "node:test";
import type { Claims, Expectation, JobEnd, Merge, Write } from "../store/index.ts";
import type { Operation, Result } from "./operation.ts";
import { packOne, packOperations, packReply, unpackOne, unpackOperations, unpackReply, type Packed } from "./wire.ts";

const id = (n: number) => `018bcfe5-6800-7000-8000-${n.toString(16).padStart(12, "0")}`;
const fence = { epoch: 3, n: 9_007_199_254_740_991 };
const bytes = (...values: number[]) => new Uint8Array(values);
const statement = { text: "select ?", parameters: ["é", 1.5, 9_007_199_254_740_993n, true, null, bytes(0, 255), ""] };
const merges: readonly Merge[] = [
  { kind: "add", amount: -3 },
  { kind: "add", amount: 1, min: 0, max: 10 },
  { kind: "max", value: 0.5 },
  { kind: "min", value: -1 },
  { kind: "union", members: ["a", "\ud83d\ude00"] },
  { kind: "set-once", value: bytes() },
  { kind: "take", amountUs: -7, burstUs: 9_007_199_254_740_991 },
];
const ends: readonly JobEnd[] = [
  { kind: "done" },
  { kind: "retry", dueAtMs: 1, error: "boom" },
  { kind: "later", dueAtMs: 2 },
  { kind: "later", dueAtMs: 3, reason: "busy" },
  { kind: "done", keepUntilMs: 4 },
  { kind: "dead", error: "" },
  { kind: "dead", error: "e", keepUntilMs: 5 },
  { kind: "parked", error: "p" },
  { kind: "undetermined", error: "u" },
];
const writes: readonly Write[] = [
  { kind: "put", key: "a//1", value: bytes(1, 2, 3) },
  {
    kind: "put",
    key: "a//2",
    value: bytes(),
    expiresAtMs: 0,
    index: [
      { field: "f", value: "v" },
      { field: "n", value: 0 },
    ],
  },
  { kind: "remove", key: "a//\u{1f600}" },
  ...merges.map((merge): Write => ({ kind: "merge", key: "m//1", merge })),
  { kind: "token", key: "t//1", value: bytes(9), keepForMs: 1 },
  {
    kind: "append",
    stream: "s//1",
    events: [
      { id: id(1), type: "T", data: bytes(4) },
      { id: id(2), type: "U", data: bytes(), meta: bytes(5, 6) },
    ],
  },
  { kind: "append", stream: "s//2", events: [] },
  { kind: "trim", stream: "s//1", upTo: 7 },
  { kind: "enqueue", job: { id: id(3), queue: "q", payload: bytes(7), priority: 0 } },
  { kind: "enqueue", job: { id: id(4), queue: "q", payload: bytes(), priority: 2, dueAtMs: 5, key: "", unique: "u" } },
  ...ends.map((end): Write => ({ kind: "finish", job: id(5), fence, end })),
  { kind: "cancel", job: id(6) },
  { kind: "redrive", job: id(7) },
  { kind: "redrive", job: id(7), payload: bytes(8) },
  { kind: "pause", queue: "q", paused: true },
  { kind: "enqueue", job: { id: id(3), queue: "q", payload: bytes(7), priority: 0, unique: "u", group: "", startByMs: 6, replace: {} } },
  { kind: "enqueue", job: { id: id(3), queue: "q", payload: bytes(7), priority: 0, unique: "u", replace: { atMostMs: 9 } } },
  { kind: "sql", statement },
];
const expects: readonly Expectation[] = [
  { kind: "record", key: "a//1", version: 0 },
  { kind: "record", key: "a//1", version: id(8) },
  { kind: "token", key: "t//1", version: 7 },
  { kind: "stream", stream: "s//1", version: 2 },
  { kind: "stream", stream: "s//1", version: 3, after: id(11) },
  { kind: "unchanged", prefix: "a//", since: 4 },
  { kind: "claim", job: id(9), fence },
  { kind: "rows", statement, digest: "ab" },
];

/** As a message port does it. */
const send = (packed: Packed): Packed => structuredClone(packed, { transfer: [packed.bytes] });

test("operations of every kind come out of the other thread as they went in, and out of one buffer", () => {
  const operations: readonly Operation[] = [
    { kind: "commit", commit: { id: id(10), expects, writes } },
    { kind: "commit", commit: { id: id(11), expects: [], writes: [] } },
    { kind: "resolve", id: id(12) },
    {
      kind: "claim",
      request: {
        holder: "h",
        leaseMs: 5,
        queues: [
          { queue: "q", limit: 3 },
          { queue: "r", limit: 0 },
          {
            queue: "s",
            limit: 1,
            policy: { concurrency: 2, rate: { everyMs: 0.5, slackMs: 1 }, perGroup: { concurrency: 1 }, weights: { é: 2 }, keepDeadMs: 3 },
          },
        ],
      },
    },
    { kind: "extend", claims: [{ id: id(13), fence }], leaseMs: 8 },
    { kind: "migrate", component: "c", name: "n", text: "create", digest: "d" },
    { kind: "keep", holder: "h", leaseMs: 9 },
    { kind: "release", holder: "h", madeUpTo: 9_007_199_254_740_991 },
    { kind: "tend" },
  ];

  assert.deepEqual(unpackOperations(send(packOperations(operations))), operations);
  assert.deepEqual(unpackOne(send(packOne({ id: id(10), expects, writes }))), { id: id(10), expects, writes });
});

test("results of every kind come back as they were given", () => {
  const job = { id: id(1), fence, queue: "q", payload: bytes(1, 2), key: "k", attempt: 2, again: true, sentAtMs: 3, leaseUntilMs: 4 };
  const results: readonly Result[] = [
    { ok: true, epoch: 3, n: 12 },
    { ok: true, epoch: 2, n: 5 },
    { ok: false, refused: "conflict", keys: ["a", "\u{1f600}"] },
    { ok: false, refused: "guard", key: "k", value: -1 },
    { ok: false, refused: "resolved" },
    { failure: true, code: "store.disk-full", message: "m", remedy: "r", details: { errcode: 13 } },
    undefined,
    [true, false],
    [],
    { jobs: [job, { ...job, key: undefined, payload: bytes(), again: false }], nextDueAtMs: undefined, nowMs: 9 },
    { jobs: [], nextDueAtMs: 10, nowMs: 9 },
  ];
  const reply = { results, queues: ["q", "r"], n: 12 };

  assert.deepEqual(unpackReply(send(packReply(reply, 3)), 3), reply);
});

test("a claimed payload does not keep the whole batch's bytes alive", () => {
  const big = { id: id(1), fence, queue: "q", payload: new Uint8Array(1_000), key: undefined, attempt: 1, again: false, sentAtMs: 1, leaseUntilMs: 2 };
  const { results } = unpackReply(
    send(packReply({ results: [{ jobs: [{ ...big, payload: bytes(1) }, big], nextDueAtMs: undefined, nowMs: 1 }], queues: [], n: 1 }, 1)),
    1,
  );

  assert.equal((results[0] as Claims).jobs[0]?.payload.buffer.byteLength, 1);
});
