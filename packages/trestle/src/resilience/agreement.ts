/** Several that should say the same: what most of them say, or that they contradict each other. */
import { isDeepStrictEqual } from "node:util";
import { Fault, integerWithin } from "../kernel/index.ts";

/**
 * Asks all replicas at once and answers what more than half of them say, compared deeply, as soon as so many have said it: `agreement([1, 2, 3].map((n) => (signal) => read(n, signal)))`. Within a pipeline that
 * retries, ask two first and one more with each attempt: what contradicts is a failure (`byzantine`, `failureOf`), and the next attempt asks a third.
 *
 * A replica that fails says nothing. One that hangs is waited for while it can decide; it is then let go: the signal that each is asked with aborts. Faults, as soon as no majority can come any more:
 * `response.contradicts`, when they say different things; else, when too few have answered, what the first one threw.
 *
 * It finds a replica that is wrong, not one that lies on purpose to some and not to others: that takes 3f + 1 of them and rounds of talk (Lamport, Shostak, Pease: "The Byzantine Generals Problem", 1982).
 */
export async function agreement<T>(
  replicas: readonly ((signal: AbortSignal) => T | Promise<T>)[],
  options: { readonly same?: (one: T, other: T) => boolean } = {},
): Promise<T> {
  const { same = isDeepStrictEqual } = options;
  integerWithin(replicas.length, "agreement.replicas.length", { least: 1, most: 1_000_000 });
  const said: { readonly value: T; votes: number }[] = [];
  const failed: unknown[] = [];
  let unheard = replicas.length;
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const vote = (value: T) => {
    const known = said.find((one) => same(one.value, value));
    if (known) known.votes++;
    else said.push({ value, votes: 1 });
  };
  const decide = () => {
    unheard--;
    const isMajority = (votes: number) => votes > replicas.length / 2;
    const most = said.find(({ votes }) => isMajority(votes));
    if (most) return resolve(most.value);
    if (isMajority(unheard + Math.max(0, ...said.map(({ votes }) => votes)))) return;
    if (said.length < 2) return reject(failed[0]);
    reject(
      Fault.create(
        "response.contradicts",
        `${replicas.length} replicas say ${said.length} different things (${said.map(({ votes }) => votes).join(", ")}), and most say none of them`,
        "Ask another one, and see which of them is wrong.",
        { details: { votes: said.map(({ votes }) => votes), failed: failed.length } },
      ),
    );
  };
  const decided = new AbortController();
  for (const ask of replicas) {
    const asked = (async () => ask(decided.signal))();
    asked
      .then(vote, (reason: unknown) => void failed.push(reason))
      .then(decide)
      .catch(reject);
  }
  return promise.finally(() => decided.abort());
}
