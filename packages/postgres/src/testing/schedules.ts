/** Schedules drawn from a seed: what each of three sessions does, a transaction or two, over so few keys that they meet. Who is next is drawn too. */
import { seededRandom, type Random } from "trestle/kernel";
import type { IsolationLevel, Statement, Step } from "trestle/simulation/postgres-model";

export interface Schedule {
  readonly seed: string;
  readonly rows: Readonly<Record<string, number>>;
  /** Each ends with the end of a transaction. After an error a session goes on with that end. */
  readonly scripts: Readonly<Record<string, readonly Step[]>>;
  /** At least 0, below 1: whose turn it is, of those who have something to say and do not wait. */
  readonly turn: () => number;
}

export const sessionNames = ["a", "b", "c"] as const;
const keys = ["x", "y", "z"] as const;
const levels: readonly IsolationLevel[] = ["read committed", "repeatable read", "serializable"];

export function drawSchedule(seed: string): Schedule {
  const random = seededRandom(seed);
  const below = (most: number): number => Math.floor(random.next() * most);
  const pick = <T>(from: readonly T[]): T => from[below(from.length)] as T;
  // Mostly one level for all: what a level promises, it promises to those who have it.
  const common = random.next() < 0.75 ? pick(levels) : undefined;
  const used = keys.slice(0, 2 + below(2));
  // A part of them is about waiting for each other: two rows that are there, and nothing but locks of them.
  const crossing = random.next() < 0.2;
  const statement = (): Statement =>
    crossing
      ? pick([
          { kind: "lock", key: pick(keys.slice(0, 2)) },
          { kind: "add", key: pick(keys.slice(0, 2)), amount: 1 },
        ])
      : drawStatement(random, pick(used));
  const rows = Object.fromEntries(used.filter(() => crossing || random.next() < 0.7).map((key) => [key, below(3)]));
  const scripts = Object.fromEntries(
    sessionNames.map((name) => [
      name,
      Array.from({ length: 1 + below(2) }, () => [
        { kind: "begin" as const, level: common ?? pick(levels) },
        ...Array.from({ length: 1 + below(3) }, () => statement()),
        { kind: random.next() < 0.85 ? ("commit" as const) : ("rollback" as const) },
      ]).flat(),
    ]),
  );
  return { seed, rows, scripts, turn: () => random.next() };
}

function drawStatement(random: Random, key: string): Statement {
  const small = (): number => Math.floor(random.next() * 3);
  const kind = random.next();
  if (kind < 0.16) return { kind: "read", key };
  if (kind < 0.26) return { kind: "scan" };
  if (kind < 0.36) return { kind: "lock", key };
  if (kind < 0.52) return { kind: "insert", key, value: small() };
  if (kind < 0.62) return { kind: "set", key, value: small() };
  if (kind < 0.74) return { kind: "set", key, value: small(), onlyIf: small() };
  if (kind < 0.88) return { kind: "add", key, amount: 1 + small() };
  return { kind: "remove", key, ...(random.next() < 0.4 && { onlyIf: small() }) };
}
