/**
 * What reacts in-commit to the events of one invocation: one reaction after the other; what a reaction itself records is reacted to before it
 * goes on. An event without its reaction is not committed.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { Fault } from "../kernel/index.ts";
import type { StagedEvent } from "./definition.ts";
import type { Invocation } from "./invocation.ts";
import { noMembers, withMember, withoutMember } from "./scarce.ts";

const roundsMax = 16;
/** Inside a reaction to an event: to what it reacts, and how deep. */
const inside = new AsyncLocalStorage<{ readonly invocation: Invocation; readonly round: number }>();

export const isReaction = (invocation: Invocation): boolean => inside.getStore()?.invocation === invocation;

export class Reactions {
  readonly #invocation: Invocation;
  /** For people. */
  readonly #name: string;
  /** Events that somebody reacts to, and has not yet. */
  #due: StagedEvent[] | undefined;
  #reacting: Promise<void> | undefined;
  #running: ReadonlySet<Promise<void>> = noMembers;
  #fault: { readonly fault: unknown } | undefined;

  constructor(invocation: Invocation, name: string) {
    this.#invocation = invocation;
    this.#name = name;
  }

  add(event: StagedEvent): void {
    (this.#due ??= []).push(event);
  }

  /** `undefined`: there is nothing to wait for. */
  react(): Promise<void> | undefined {
    if (!this.#due && !this.#reacting) return undefined;
    const around = inside.getStore();
    if (around?.invocation === this.#invocation) return this.#track(this.#reactFrom(around.round + 1));
    if (!this.#due) return this.#reacting;
    this.#reacting = this.#track((this.#reacting ?? Promise.resolve()).then(() => this.#reactFrom(0)));
    return this.#reacting;
  }

  #track(running: Promise<void>): Promise<void> {
    this.#running = withMember(this.#running, running);
    const ended = () => withoutMember(this.#running, running);
    running.then(ended, ended);
    return running;
  }

  async #reactFrom(first: number): Promise<void> {
    const { node } = this.#invocation;
    try {
      for (let round = first; this.#due; round++) {
        if (round >= roundsMax)
          throw Fault.create(
            "subscription.endless",
            `in-commit subscriptions of ${this.#name} keep causing events, ${roundsMax} rounds deep`,
            "Make one of them `following`.",
          );
        const events = this.#due;
        this.#due = undefined;
        for (const event of events)
          for (const follower of node.inCommit(event.source))
            await inside.run({ invocation: this.#invocation, round }, async () => follower.react(event, this.#invocation));
      }
    } catch (fault) {
      // An event without its reaction must not be committed, whoever catches this.
      this.#fault ??= { fault };
      throw fault;
    }
  }

  /** Resolves when everything staged so far has been reacted to; `undefined` when it has. */
  done(): Promise<void> | undefined {
    return this.#due || this.#running.size > 0 || this.#fault ? this.#reactAll() : undefined;
  }

  async #reactAll(): Promise<void> {
    while (!this.#fault && (this.#due || this.#running.size > 0)) {
      if (this.#running.size === 0) void this.react();
      await Promise.allSettled(this.#running);
    }
    if (this.#fault) throw this.#fault.fault as Error;
  }
}
