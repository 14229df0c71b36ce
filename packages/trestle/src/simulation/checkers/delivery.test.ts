import assert from "node:assert/strict";
import { test } from "node:test";
import { checkDelivery, type DeliveryCall, type DeliveryPromise, type Operation } from "./index.ts";
import { below, chance, withSeeds } from "./testing/histories.ts";

const file = "delivery.test.ts";
/** `s1` is a send of message 1, `r1` its receive; with `?` and `!` of unknown outcome or failed. One after the other; of key k, or another one before a colon. */
const ledger = (...texts: readonly string[]): Operation<DeliveryCall>[] =>
  texts.map((text, i) => {
    const [, key = "k", letter, id, end] = /^(?:(\w):)?([sr])(\d)([?!]?)$/.exec(text) as unknown as [string, string | undefined, string, string, string];
    const asked = { process: letter as string, key, call: { kind: letter === "s" ? "send" : "receive", id } as DeliveryCall, invokedAt: 2 * i };
    return end === "?" ? { ...asked, outcome: "unknown" } : { ...asked, outcome: end === "!" ? "failed" : "ok", returnedAt: 2 * i + 1 };
  });
const kinds = (texts: readonly string[], promise: Partial<DeliveryPromise> = {}) =>
  checkDelivery(ledger(...texts), { delivery: "effectively-once", ...promise }).problems.map(({ kind }) => kind);

test("what was acknowledged arrives at least once, at most once, or both", () => {
  assert.deepEqual(kinds(["s1", "s2", "r1", "r2"]), []);
  assert.deepEqual(kinds(["s1"]), ["lost"]);
  assert.deepEqual(kinds(["s1"], { delivery: "at-most-once" }), []);
  assert.deepEqual(kinds(["s1", "r1", "r1"]), ["duplicate"]);
  assert.deepEqual(kinds(["s1", "r1", "r1"], { delivery: "at-least-once" }), []);
});

test("a receive that failed does not count, and one of unknown outcome leaves open what became of the message", () => {
  assert.deepEqual(kinds(["s1", "r1!", "r1"]), []);
  assert.deepEqual(kinds(["s1", "r1!"]), ["lost"]);
  assert.deepEqual(kinds(["s1", "r1?"]), ["gave-up"]);
  assert.deepEqual(kinds(["s1", "r1?", "r1"]), []);
});

test("nothing is received that nobody sent, or of which the send had failed; a send of unknown outcome may arrive", () => {
  assert.deepEqual(kinds(["r1"]), ["phantom"]);
  assert.deepEqual(kinds(["s1!", "r1"]), ["phantom"]);
  assert.deepEqual(kinds(["s1?", "r1"]), []);
  assert.deepEqual(kinds(["s1?"]), []);
  assert.deepEqual(kinds(["s1?", "s1", "r1"]), [], "sent again under its id");
});

test("messages of one key have their effects in the order in which they were sent", () => {
  assert.deepEqual(kinds(["s1", "s2", "r1", "r2"], { fifo: true }), []);
  assert.deepEqual(kinds(["s1", "s2", "r2", "r1"], { fifo: true }), ["out-of-order"]);
  assert.deepEqual(kinds(["s1", "x:s2", "r2", "r1"], { fifo: true }), [], "of two keys");
  assert.deepEqual(kinds(["s1", "s2", "r1!", "r2", "r1"], { fifo: true }), ["out-of-order"], "an attempt that failed is no effect");
  assert.deepEqual(kinds(["s1", "s2", "r2"], { fifo: true, delivery: "at-most-once" }), [], "what never came is not in the way");
});

test("a message comes within its bound, counted from the acknowledged send", () => {
  assert.deepEqual(kinds(["s1", "s2", "r2", "r1"], { lagMaxMs: 5 }), []);
  assert.deepEqual(kinds(["s1", "s2", "r2", "r1"], { lagMaxMs: 4 }), ["late"]);
});

test("random ledgers are in order exactly when no pair of messages is out of order", () => {
  const seen = { ok: 0, violation: 0 };
  withSeeds(file, 1_000, (random) => {
    const history: Operation<DeliveryCall>[] = [];
    for (let id = 0; id < 5; id++) {
      const sentAt = below(random, 20);
      const receivedAt = sentAt + below(random, 12);
      const key = below(random, 2);
      history.push({ process: 0, key, call: { kind: "send", id }, invokedAt: sentAt, returnedAt: sentAt + below(random, 4), outcome: "ok" });
      if (chance(random, 0.9))
        history.push({ process: 1, key, call: { kind: "receive", id }, invokedAt: receivedAt, returnedAt: receivedAt + below(random, 3), outcome: "ok" });
    }
    const of = (kind: string) => history.filter(({ call }) => call.kind === kind);
    const receive = (send: Operation<DeliveryCall>) => of("receive").find(({ call }) => call.id === send.call.id);
    const isWrong = of("send").some((one) =>
      of("send").some((other) => {
        const [first, second] = [receive(one), receive(other)];
        return one.key === other.key && (one.returnedAt as number) < other.invokedAt && first && second && second.invokedAt < (first.returnedAt as number);
      }),
    );
    seen[isWrong ? "violation" : "ok"]++;

    assert.equal(checkDelivery(history, { delivery: "at-most-once", fifo: true }).verdict, isWrong ? "violation" : "ok", JSON.stringify(history));
  });
  assert.ok(seen.ok > 0 && seen.violation > 0);
});
