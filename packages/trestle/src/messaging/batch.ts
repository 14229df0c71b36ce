/**
 * Several jobs of one queue handled by one call, and one commit. Each is ended by itself: a message may be set aside, put off or failed, and the
 * rest is done. A call that throws says nothing about whose fault it is: its messages are then handled one by one, and only the bad
 * one fails. It is a commit like any other (`write`), without recovery points: there is no one job whose journal they would be.
 *
 * States: *together* (one invocation over all items), then *settled* when its commit stands; else *one by one*, each item in an
 * invocation of its own, which ends it as a job's run would; an item that somebody else has got meanwhile is left alone. A call that goes on
 * after its time is over keeps the slot, and the next one waits for another. When none comes free within the time of a call, the time-out is the failed try of each that is left.
 */
import {
  execute,
  type WorkContext,
  type Component,
  type Conclusion,
  type Ended,
  type NodeServices,
  type Uses,
  type Work,
  type WriteContext,
} from "../component/index.ts";
import { durationMs, Fault, type Duration } from "../kernel/index.ts";
import type { JobEnd } from "../store/index.ts";
import type { JobRun, RunOwner } from "./job-run.ts";

/** One message of a batch, and what only it can say. What was staged for it stays, also when it is not done. */
export interface BatchMessage<Message> {
  /** The job's id, equal on every attempt. */
  readonly id: string;
  /** 1 for the first. */
  readonly attempt: number;
  readonly message: Message;
  /** Stop trying, keep it for a person. */
  dead(reason: string): void;
  /** Not now: does not count as a failed attempt. */
  later(delay: Duration, reason?: string): void;
  /** It failed: tried again after a while, or dead when its attempts are used up. */
  fail(error: unknown): void;
}

/** Messages one call handles at the most. */
export const batchMessagesMax = 256;

/** Handles these messages; each is parsed already. */
export type HandleBatch = (messages: readonly BatchMessage<unknown>[], uses: object, context: WriteContext) => unknown;

export class BatchRun {
  readonly #owner: RunOwner;
  readonly #items: readonly JobRun[];
  readonly #handle: HandleBatch;
  readonly #parse: (item: JobRun) => Promise<unknown>;
  /** Whose slot it has. */
  #holder: JobRun;

  /** The first item holds a slot. `parse` rejects for a message that its queue cannot read any more, and marks its run as hopeless. */
  constructor(owner: RunOwner, items: readonly JobRun[], parse: (item: JobRun) => Promise<unknown>, handle: HandleBatch) {
    this.#owner = owner;
    this.#items = items;
    this.#holder = items[0] as JobRun;
    this.#parse = parse;
    this.#handle = handle;
  }

  begin(): void {
    const work = this.#perform();
    for (const item of this.#items) item.endIn(work);
  }

  async #perform(): Promise<void> {
    const messages = new Map<JobRun, unknown>();
    for (const item of this.#items) {
      try {
        messages.set(item, await this.#parse(item));
      } catch (fault) {
        await item.endAlone(item.afterFailure(fault));
      }
    }
    const items = [...messages.keys()];
    if (items.length === 0) return;
    const together = await this.#call(items, messages);
    if (together.kind === "answered") return;
    if (items.length === 1) return this.#settle(items[0] as JobRun, together);
    let isStuck = false;
    for (const item of items) {
      if (!this.#holder.holding && !isStuck && !item.isAborted) isStuck = !(await this.#slot(item)) && !item.isAborted;
      if (item.isAborted) await item.giveBack();
      else if (isStuck) await item.endAlone(item.afterFailure(this.#stuck()));
      else await this.#settle(item, await this.#call([item], messages));
    }
  }

  /** Waits for another slot, until the time of a call is over or the item is taken away. */
  #slot(item: JobRun): Promise<boolean> {
    return new Promise((resolve) => {
      const over = () => {
        this.#owner.withdraw(item);
        ended(false);
      };
      const ended = (hasSlot: boolean) => {
        timer.cancel();
        item.signal.removeEventListener("abort", over);
        resolve(hasSlot);
      };
      const timer = this.#owner.node.clock.after(this.#owner.handling.timeoutMs, over);
      item.signal.addEventListener("abort", over, { once: true });
      void this.#owner.slotAgain(item).then(() => {
        this.#holder = item;
        ended(true);
      });
    });
  }

  #stuck(): Fault {
    const { component, timeoutMs } = this.#owner.handling;
    return Fault.create(
      "deadline.exceeded",
      `a call of a batch of ${component.kind} "${component.name}" goes on after its time, and no other place came free within ${timeoutMs} ms to handle its messages one by one`,
      "See what the handlers wait for: they hold their places until they have ended.",
    );
  }

  async #settle(item: JobRun, ended: Ended<unknown>): Promise<void> {
    if (ended.kind === "answered") return;
    if (item.isAborted) await item.giveBack();
    else if (ended.kind === "failed") await item.endAlone(item.afterFailure(ended.fault));
    else item.countLost();
  }

  async #call(items: readonly JobRun[], messages: ReadonlyMap<JobRun, unknown>): Promise<Ended<unknown>> {
    const { clock } = this.#owner.node;
    const startedMs = clock.monotonicMs();
    const call = new BatchCall(this.#owner, items, messages, this.#handle, this.#holder);
    let ended: Ended<unknown>;
    try {
      ended = await execute(call);
    } catch (fault) {
      ended = { kind: "failed", fault };
    }
    this.#owner.callEnded(this.#holder, call.signal.aborted ? undefined : clock.monotonicMs() - startedMs, ended.kind === "failed" ? ended.fault : undefined);
    return ended;
  }
}

class BatchCall implements Work<unknown> {
  readonly mode = "write";
  readonly detached = true;
  readonly operation = "";
  readonly id: string;
  readonly tenant: string | undefined;
  readonly attempt: number;
  readonly #owner: RunOwner;
  readonly #items: readonly JobRun[];
  readonly #messages: ReadonlyMap<JobRun, unknown>;
  readonly #handle: HandleBatch;
  readonly #holder: JobRun;
  readonly #controller = new AbortController();
  /** How those end that are not done. */
  #ends = new Map<JobRun, JobEnd>();

  constructor(owner: RunOwner, items: readonly JobRun[], messages: ReadonlyMap<JobRun, unknown>, handle: HandleBatch, holder: JobRun) {
    const [first] = items as readonly [JobRun];
    this.#owner = owner;
    this.#items = items;
    this.#messages = messages;
    this.#handle = handle;
    this.#holder = holder;
    // Alone it is known by its job's id, as any job's run is.
    this.id = items.length === 1 ? first.id : owner.node.ids.next();
    this.tenant = first.tenant;
    this.attempt = Math.max(...items.map((item) => item.attempt));
    // One that is cancelled does not stop the others; a node that stops, stops them all.
    for (const { signal } of items)
      signal.addEventListener("abort", () => void (items.every((item) => item.signal.aborted) && this.#controller.abort(signal.reason)), { once: true });
  }

  get node(): NodeServices {
    return this.#owner.node;
  }
  get component(): Component {
    return this.#owner.handling.component;
  }
  get uses(): Uses | undefined {
    return this.#owner.handling.uses;
  }
  get timeoutMs(): number {
    return this.#owner.handling.timeoutMs;
  }
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  run(uses: object, context: WorkContext): unknown {
    this.#ends = new Map(); // a conflict runs it again
    return this.#handle(
      this.#items.map((item) => this.#messageOf(item)),
      uses,
      context,
    );
  }

  outlived(running: Promise<unknown>): void {
    this.#holder.outlived(running);
  }

  conclude(answer: unknown): Conclusion {
    if (answer !== undefined)
      throw Fault.create(
        "job.batch-answered",
        `the handler of a batch of queue "${this.component.name}" answered something; its messages say how each ends`,
        "Return nothing; use `dead`, `later` or `fail` of a message.",
      );
    return { keep: true, end: "ok", writes: this.#items.flatMap((item) => item.endWrites(this.#ends.get(item) ?? item.doneEnd())) };
  }

  #messageOf(item: JobRun): BatchMessage<unknown> {
    return {
      id: item.id,
      attempt: item.attempt,
      message: this.#messages.get(item),
      dead: (reason) => void this.#ends.set(item, item.askedEnd("dead", { reason })),
      later: (delay, reason) =>
        void this.#ends.set(item, item.askedEnd("later", { delayMs: durationMs(delay, "later: delay"), ...(reason === undefined ? {} : { reason }) })),
      fail: (error) => void this.#ends.set(item, item.afterFailure(error)),
    };
  }
}
