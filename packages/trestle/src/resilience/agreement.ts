/** Several that should say the same: what most of them say, or that they contradict each other. */
import { isDeepStrictEqual } from "node:util";
import { Fault } from "../kernel/index.ts";

/**
 * Asks all replicas at once and answers what more than half of them say, compared deeply: `agreement([1, 2, 3].map((n) => () => read(n)))`. Within a pipeline that retries, ask two first and one more with each
 * attempt: what contradicts is a failure (`byzantine`, `failureOf`), and the next attempt asks a third.
 *
 * A replica that fails says nothing. Faults: `response.contradicts`, when they say different things and none of it is what most say; else, when too few have answered, what the first one threw.
 *
 * It finds a replica that is wrong, not one that lies on purpose to some and not to others: that takes 3f + 1 of them and rounds of talk (Lamport, Shostak, Pease: "The Byzantine Generals Problem", 1982).
 */
export async function agreement<T>(replicas: readonly (() => T | Promise<T>)[], options: { readonly same?: (one: T, other: T) => boolean } = {}): Promise<T> {
  const { same = isDeepStrictEqual } = options;
  if (replicas.length === 0) throw Fault.create("option.out-of-range", "agreement: it needs replicas to ask, got none", "Give it two, better three.");
  const settled = await Promise.allSettled(replicas.map(async (ask) => ask()));
  const said: { readonly value: T; votes: number }[] = [];
  for (const one of settled) {
    if (one.status === "rejected") continue;
    const known = said.find(({ value }) => same(value, one.value));
    if (known) known.votes++;
    else said.push({ value: one.value, votes: 1 });
  }
  const most = said.find(({ votes }) => votes > replicas.length / 2);
  if (most) return most.value;
  const failed = settled.filter((one) => one.status === "rejected");
  if (said.length < 2) throw failed[0]?.reason;
  throw Fault.create(
    "response.contradicts",
    `${replicas.length} replicas say ${said.length} different things (${said.map(({ votes }) => votes).join(", ")}), and most say none of them`,
    "Ask another one, and see which of them is wrong.",
    { details: { votes: said.map(({ votes }) => votes), failed: failed.length } },
  );
}
