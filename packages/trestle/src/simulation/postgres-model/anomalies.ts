/**
 * What the model claims that PostgreSQL shows, one story each: who does what, and what is seen then. The model must allow every look of them, and a server must show
 * it. Names are those of Berenson et al., "A Critique of ANSI SQL Isolation Levels", SIGMOD 1995, where there is one.
 */
import type { Look } from "./model.ts";
import type { IsolationLevel, Step } from "./step.ts";

export interface Anomaly {
  readonly name: string;
  readonly rows: Readonly<Record<string, number>>;
  readonly story: readonly (readonly [session: string, step: Step, look: Look])[];
}

const begin = (level: IsolationLevel): Step => ({ kind: "begin", level });
const read = (key: string): Step => ({ kind: "read", key });
const lock = (key: string): Step => ({ kind: "lock", key });
const insert = (key: string, value: number): Step => ({ kind: "insert", key, value });
const set = (key: string, value: number, onlyIf?: number): Step => ({ kind: "set", key, value, ...(onlyIf !== undefined && { onlyIf }) });
const add = (key: string, amount: number): Step => ({ kind: "add", key, amount });
const remove = (key: string): Step => ({ kind: "remove", key });
const scan: Step = { kind: "scan" };
const commit: Step = { kind: "commit" };
const rollback: Step = { kind: "rollback" };

type Told = readonly [session: string, step: Step, look: Look];
const bothBegin = (level: IsolationLevel): readonly Told[] => [
  ["a", begin(level), "a: begun"],
  ["b", begin(level), "b: begun"],
];

export const anomalies: readonly Anomaly[] = [
  {
    name: "lost update: at read committed the second of two who read first and write then undoes the first",
    rows: { x: 1 },
    story: [
      ...bothBegin("read committed"),
      ["a", read("x"), "a: x=1"],
      ["b", read("x"), "b: x=1"],
      ["a", set("x", 11), "a: x=11"],
      ["a", commit, "a: committed"],
      ["b", set("x", 21), "b: x=21"],
      ["b", commit, "b: committed"],
    ],
  },
  {
    name: "first updater wins: at repeatable read the second of two fails, at once where the first has committed",
    rows: { x: 1 },
    story: [
      ...bothBegin("repeatable read"),
      ["a", read("x"), "a: x=1"],
      ["b", read("x"), "b: x=1"],
      ["a", set("x", 11), "a: x=11"],
      ["a", commit, "a: committed"],
      ["b", set("x", 21), "b: error 40001"],
      ["b", commit, "b: rolled back"],
    ],
  },
  {
    name: "first updater wins: at repeatable read who waited for the first fails when it commits, and goes on when it does not",
    rows: { x: 1, y: 1 },
    story: [
      ...bothBegin("repeatable read"),
      ["c", begin("repeatable read"), "c: begun"],
      ["a", add("x", 10), "a: x=11"],
      ["b", add("x", 20), "b waits"],
      ["a", rollback, "a: rolled back; b: x=21"],
      ["c", remove("x"), "c waits"],
      ["b", commit, "b: committed; c: error 40001"],
    ],
  },
  {
    name: "at repeatable read a row lock that waited for a change waits for whoever has the newest version too, and fails then",
    rows: { x: 1 },
    story: [
      ...bothBegin("read committed"),
      ["c", begin("repeatable read"), "c: begun"],
      ["a", add("x", 10), "a: x=11"],
      ["b", lock("x"), "b waits"],
      ["c", lock("x"), "b waits; c waits"],
      ["a", commit, "a: committed; b: x=11; c waits"],
      ["b", commit, "b: committed; c: error 40001"],
    ],
  },
  {
    name: "at read committed an addition that waited adds to what it finds then",
    rows: { x: 1 },
    story: [...bothBegin("read committed"), ["a", add("x", 10), "a: x=11"], ["b", add("x", 20), "b waits"], ["a", commit, "a: committed; b: x=31"]],
  },
  {
    name: "at read committed a condition is judged again after a wait, and what it left alone stays locked",
    rows: { x: 1 },
    story: [
      ...bothBegin("read committed"),
      ["c", begin("read committed"), "c: begun"],
      ["a", set("x", 2), "a: x=2"],
      ["b", set("x", 3, 1), "b waits"],
      ["a", commit, "a: committed; b: no row"],
      ["c", add("x", 1), "c waits"],
      ["b", rollback, "b: rolled back; c: x=3"],
    ],
  },
  {
    name: "at read committed what is changed into the condition while a statement begins is not found, and the next statement finds it",
    rows: { x: 1 },
    story: [
      ...bothBegin("read committed"),
      ["a", set("x", 2), "a: x=2"],
      ["b", set("x", 3, 2), "b: no row"],
      ["a", commit, "a: committed"],
      ["b", set("x", 3, 2), "b: x=3"],
    ],
  },
  {
    name: "fuzzy read and phantom: at read committed each statement sees what has committed, at repeatable read each sees the first one's snapshot",
    rows: { x: 1 },
    story: [
      ["a", begin("read committed"), "a: begun"],
      ["b", begin("repeatable read"), "b: begun"],
      ["c", begin("read committed"), "c: begun"],
      ["a", scan, "a: x=1"],
      ["b", scan, "b: x=1"],
      ["c", add("x", 1), "c: x=2"],
      ["c", insert("y", 1), "c: y=1"],
      ["a", scan, "a: x=1"],
      ["c", commit, "c: committed"],
      ["a", scan, "a: x=2 y=1"],
      ["b", scan, "b: x=1"],
    ],
  },
  {
    name: "a snapshot begins with the first statement, not with begin",
    rows: { x: 1 },
    story: [...bothBegin("repeatable read"), ["b", set("x", 2), "b: x=2"], ["b", commit, "b: committed"], ["a", read("x"), "a: x=2"]],
  },
  {
    name: "write skew: at repeatable read two who read both rows and change one each both commit",
    rows: { x: 1, y: 1 },
    story: [
      ...bothBegin("repeatable read"),
      ["a", scan, "a: x=1 y=1"],
      ["b", scan, "b: x=1 y=1"],
      ["a", set("x", 0), "a: x=0"],
      ["b", set("y", 0), "b: y=0"],
      ["a", commit, "a: committed"],
      ["b", commit, "b: committed"],
    ],
  },
  {
    name: "write skew is refused at serializable: the second one fails",
    rows: { x: 1, y: 1 },
    story: [
      ...bothBegin("serializable"),
      ["a", scan, "a: x=1 y=1"],
      ["b", scan, "b: x=1 y=1"],
      ["a", set("x", 0), "a: x=0"],
      ["b", set("y", 0), "b: y=0"],
      ["a", commit, "a: committed"],
      ["b", commit, "b: error 40001"],
    ],
  },
  {
    name: "serializable refuses what some order allows: the one in the middle of two conflicts fails, though nobody saw anything wrong",
    rows: { x: 1, y: 1 },
    story: [
      ...bothBegin("serializable"),
      ["c", begin("serializable"), "c: begun"],
      ["a", read("x"), "a: x=1"],
      ["b", read("y"), "b: y=1"],
      ["a", insert("z", 1), "a: z=1"],
      ["c", set("y", 2), "c: y=2"],
      ["b", set("x", 2), "b: x=2"],
      ["c", commit, "c: committed"],
      ["b", commit, "b: error 40001"],
    ],
  },
  {
    // Whoever has waited for `deadlock_timeout` looks for a circle, so here it is the first of the two.
    name: "deadlock: two who wait for each other, and one of them is ended",
    rows: { x: 1, y: 1 },
    story: [
      ...bothBegin("read committed"),
      ["a", lock("x"), "a: x=1"],
      ["b", lock("y"), "b: y=1"],
      ["a", lock("y"), "a waits"],
      ["b", lock("x"), "a: error 40P01; b: x=1"],
    ],
  },
  {
    name: "a key that somebody is about to insert is waited for: taken when he commits, free when he does not",
    rows: {},
    story: [
      ...bothBegin("repeatable read"),
      ["c", begin("read committed"), "c: begun"],
      ["a", insert("x", 1), "a: x=1"],
      ["b", insert("x", 2), "b waits"],
      ["a", rollback, "a: rolled back; b: x=2"],
      ["c", insert("x", 3), "c waits"],
      ["b", commit, "b: committed; c: error 23505"],
    ],
  },
  {
    name: "an insert fails for a row that its snapshot does not show",
    rows: { y: 1 },
    story: [
      ...bothBegin("repeatable read"),
      ["a", scan, "a: y=1"],
      ["b", insert("x", 1), "b: x=1"],
      ["b", commit, "b: committed"],
      ["a", read("x"), "a: no row"],
      ["a", insert("x", 2), "a: error 23505"],
      ["a", read("y"), "a: error 25P02"],
    ],
  },
  {
    name: "a snapshot that shows a removed row beside the one inserted in its place shows a key twice",
    rows: { x: 1 },
    story: [
      ...bothBegin("repeatable read"),
      ["a", scan, "a: x=1"],
      ["b", remove("x"), "b: x=1"],
      ["b", commit, "b: committed"],
      ["a", insert("x", 2), "a: x=2"],
      ["a", scan, "a: x=1 x=2"],
      ["a", remove("x"), "a: error 40001"],
    ],
  },
];
