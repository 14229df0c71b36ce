/**
 * Abort signals linked without leaks: a link listens to its parents until it is released, and then nothing of it is left on
 * them. `AbortSignal.any` leaves the same to the garbage collector and costs ten times as much.
 */

import { Linked, unlink } from "./linked.ts";

export interface LinkedSignal {
  /** Aborts with the first parent that does, with that parent's reason, or by `abort`. */
  readonly signal: AbortSignal;
  abort(reason: unknown): void;
  /** Stops listening to the parents. Safe to call twice. The signal stays as it is. */
  release(): void;
  [Symbol.dispose](): void;
}

export function linkSignals(...parents: readonly (AbortSignal | undefined)[]): LinkedSignal {
  const controller = new AbortController();
  const release = () => {
    for (const parent of parents) parent?.removeEventListener("abort", onAbort);
  };
  const abort = (reason: unknown) => {
    release();
    controller.abort(reason);
  };
  function onAbort(this: AbortSignal): void {
    abort(this.reason);
  }
  for (const parent of parents) {
    if (parent?.aborted) {
      abort(parent.reason);
      break;
    }
    parent?.addEventListener("abort", onAbort, { once: true });
  }
  return { signal: controller.signal, abort, release, [Symbol.dispose]: release };
}

/** Who follows a signal. */
export interface Follower {
  abort(reason: unknown): void;
}

export interface Followed {
  /** Who hears of it: may be handed on. */
  holder: Follower;
  /** Stops following. Safe to call twice. */
  release(): void;
}

/** What may be cut short and has a signal as soon as somebody asks for one: whoever only wants to hear of it follows it instead. */
export interface Cuttable {
  readonly signal: AbortSignal;
  readonly aborted: boolean;
  readonly reason: unknown;
}

/**
 * Follows a signal, or what may be cut short, at the cost of a list entry: however many follow a signal, one listener is added to it, once, because adding and removing one
 * takes longer than what most of those who follow do in between. It stays as long as the signal does.
 */
export function followSignal(source: AbortSignal | Cuttable, holder: Follower): Followed {
  let head = followers.get(source);
  if (!head) {
    followers.set(source, (head = new Linked()));
    if (source instanceof AbortSignal) source.addEventListener("abort", () => tellFollowers(source, source.reason), { once: true });
  }
  const following = new Following(holder);
  head.append(following);
  return following;
}

/** For what is cut short itself, when it is: whoever follows it hears of it. */
export function tellFollowers(source: AbortSignal | Cuttable, reason: unknown): void {
  const head = followers.get(source);
  if (!head) return;
  for (let first = head.next; first !== head; first = head.next) {
    unlink(first);
    (first as Following).holder.abort(reason);
  }
}

const followers = new WeakMap<AbortSignal | Cuttable, Linked>();

class Following extends Linked implements Followed {
  holder: Follower;

  constructor(holder: Follower) {
    super();
    this.holder = holder;
  }

  release(): void {
    unlink(this);
  }
}
