/**
 * The ledger of a queue, a topic, an outbox, a webhook: what was sent, what was delivered. A `send` is `ok` when it was acknowledged; a `receive` is `ok` when its effect is
 * there, `failed` when it certainly is not, `unknown` when the receiver died over it. A message's `id` is its own; `key` is that within which order counts.
 */
import { Findings, type Checked } from "./checked.ts";
import { checkOperations, endOf, grouped, inWords, sortBy, type History, type Operation } from "./history.ts";

export interface DeliveryCall {
  readonly kind: "send" | "receive";
  readonly id: string | number;
}

export interface DeliveryPromise {
  /**
   * `at-least-once`: what was acknowledged arrives. `at-most-once`: nothing has its effect twice. `effectively-once`: both. At the end of the history everything
   * must have had the time to arrive.
   */
  readonly delivery: "at-least-once" | "at-most-once" | "effectively-once";
  /** Messages of one key have their effects one after the other, in the order in which they were sent; what was sent side by side has none. Default false. */
  readonly fifo?: boolean;
  /** Milliseconds (or moments) from the acknowledged send to the beginning of the first receive that had its effect. Default: no bound. */
  readonly lagMaxMs?: number;
}

/**
 * Problems: `phantom` (nobody sent it, or the send had failed), `lost`, `duplicate`, `out-of-order`, `late`; `gave-up` for a message of which only receives of
 * unknown outcome are there. What was sent with an unknown outcome may arrive or not. Faults `history.bad-operation`.
 */
export function checkDelivery(history: History<DeliveryCall>, promise: DeliveryPromise): Checked {
  checkOperations(history);
  const findings = new Findings(history.length);
  const at = (place: number) => history[place] as Operation<DeliveryCall>;
  const messages = grouped(history.keys(), (place) => at(place).call.id);
  const arrived: { readonly send: number; readonly receive: number }[] = [];
  for (const [id, places] of messages) {
    // A send that was repeated under its id is one message, sent when the first of them was acknowledged.
    const sends = sortBy(
      places.filter((place) => at(place).call.kind === "send" && at(place).outcome !== "failed"),
      (place) => endOf(at(place)),
    );
    const receives = sortBy(
      places.filter((place) => at(place).call.kind === "receive"),
      (place) => at(place).invokedAt,
    );
    const effects = receives.filter((place) => at(place).outcome === "ok");
    const send = sends[0];
    if (send === undefined) {
      if (receives.length > 0)
        findings.violation(
          "phantom",
          `message ${id} was received, and ${places.length > receives.length ? "every send of it had failed" : "nobody sent it"}: ${inWords(at(receives[0] as number))}`,
          places,
        );
      continue;
    }
    if (promise.delivery !== "at-least-once" && effects.length > 1)
      findings.violation(
        "duplicate",
        `message ${id} had its effect ${effects.length} times: ${effects
          .slice(0, 3)
          .map((place) => inWords(at(place)))
          .join("; ")}`,
        effects,
      );
    if (promise.delivery !== "at-most-once" && effects.length === 0 && at(send).outcome === "ok") {
      const unsure = receives.some((place) => at(place).outcome === "unknown");
      if (unsure) findings.unknown("gave-up", `nobody knows whether message ${id} had its effect: ${inWords(at(receives.at(-1) as number))}`, places);
      else findings.violation("lost", `message ${id} was acknowledged and never had its effect: ${inWords(at(send))}`, places);
    }
    const first = effects[0];
    if (first === undefined) continue;
    arrived.push({ send, receive: first });
    const lagMs = at(first).invokedAt - endOf(at(send));
    if (promise.lagMaxMs !== undefined && lagMs > promise.lagMaxMs)
      findings.violation("late", `message ${id} came ${lagMs} after its send was acknowledged, more than ${promise.lagMaxMs}: ${inWords(at(first))}`, [
        send,
        first,
      ]);
  }
  if (promise.fifo) for (const ofOneKey of grouped(arrived, ({ send }) => at(send).key).values()) inOrder(history, ofOneKey, findings);
  return findings.checked();
}

/** Each is held against the one whose effect ended last, of those sent before it. */
function inOrder(history: History<DeliveryCall>, arrived: { readonly send: number; readonly receive: number }[], findings: Findings): void {
  const at = (place: number) => history[place] as Operation<DeliveryCall>;
  const sent = sortBy(arrived.slice(), ({ send }) => endOf(at(send)));
  let last: { readonly send: number; readonly receive: number } | undefined;
  let next = 0;
  for (const message of sortBy(arrived, ({ send }) => at(send).invokedAt)) {
    for (; next < sent.length && endOf(at((sent[next] as typeof message).send)) < at(message.send).invokedAt; next++) {
      const before = sent[next] as typeof message;
      if (!last || endOf(at(before.receive)) > endOf(at(last.receive))) last = before;
    }
    if (last && at(message.receive).invokedAt < endOf(at(last.receive)))
      findings.violation(
        "out-of-order",
        `message ${at(message.send).call.id} was sent after message ${at(last.send).call.id} and began before the effect of that was there: ${inWords(at(message.receive))}, ${inWords(at(last.receive))}`,
        [message.send, message.receive, last.send, last.receive],
      );
  }
}
