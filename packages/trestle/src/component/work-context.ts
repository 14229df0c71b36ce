/** The third argument of a handler. Members are bound when looked at, because handlers take them apart: `({}, {}, { newId, log })`. */
import type { DurableContext, Log, Principal } from "./context.ts";
import { Fault, type Instant } from "../kernel/index.ts";
import { refusalOf } from "./refusal.ts";
import { Invocation } from "./invocation.ts";
import { noEntries, withEntry } from "./scarce.ts";
import { parseNow, type Out, type Schema } from "./schema.ts";

export class WorkContext implements DurableContext {
  readonly #invocation: Invocation;
  #steps: ReadonlyMap<string, number> = noEntries;

  constructor(invocation: Invocation) {
    this.#invocation = invocation;
  }

  get id(): string {
    return this.#invocation.frame.id;
  }
  get attempt(): number {
    return this.#invocation.frame.attempt;
  }
  get signal(): AbortSignal {
    return this.#invocation.frame.signal;
  }
  get tenant(): string | undefined {
    return this.#invocation.frame.tenant;
  }
  get correlationId(): string {
    return this.#invocation.frame.correlation ?? this.#invocation.frame.id;
  }
  get causationId(): string {
    return this.#invocation.frame.cause ?? this.#invocation.frame.id;
  }
  get principal(): Principal | undefined {
    return this.#invocation.frame.principal;
  }
  get log(): Log {
    const { node, component, id, tenant } = this.#invocation.frame;
    return node.log(component.name, { traceparent: undefined, tenant, invocation: id });
  }
  get now(): () => Instant {
    return () => this.#invocation.now();
  }
  get random(): () => number {
    return () => this.#invocation.random();
  }
  get remainingMs(): () => number {
    return () => Math.max(0, this.#invocation.frame.deadlineMs - this.#invocation.node.clock.monotonicMs());
  }
  get newId(): { (): string; <S extends Schema<string>>(schema: S): Out<S> } {
    return <S extends Schema<string>>(schema?: S) => {
      const id = this.#invocation.newId();
      return schema ? parseNow(schema, id, "a new id") : id;
    };
  }

  get commitSeparately(): DurableContext["commitSeparately"] {
    return (because, handles, write) => commitSeparately(this.#invocation, because, handles, write);
  }

  get step(): DurableContext["step"] {
    return (name, run) => {
      const invocation = this.#invocation;
      // One key per call: the other side would take the second step of one name for the first one again.
      const occurrence = (this.#steps.get(name) ?? 0) + 1;
      this.#steps = withEntry(this.#steps, name, occurrence);
      const key = `${invocation.frame.id}:${name}${occurrence === 1 ? "" : `:${occurrence}`}`;
      return invocation.recoveryPoint({
        operation: `step ${name}`,
        key,
        run: () => run({ key, signal: invocation.frame.signal }),
        isUnknown: () => false,
      });
    };
  }
}

async function commitSeparately<H extends object, T>(outer: Invocation, because: string, handles: H, write: (handles: H) => T | Promise<T>): Promise<T> {
  outer.assertOpen();
  if (because.trim() === "")
    throw Fault.create(
      "commit.separate-without-reason",
      "commitSeparately needs its reason, a text that says why these writes must stay when the handler fails; got an empty one",
      "Say why.",
    );
  const bound = Object.entries(handles).map(([name, handle]) => {
    const component = outer.componentOf(handle as object);
    if (!component)
      throw Fault.create(
        "commit.not-a-handle",
        `commitSeparately got ${JSON.stringify(name)}, which is not a handle of this handler`,
        "Pass the handles to write with: `{ attempts }`.",
      );
    return [name, component] as const;
  });
  // Once per attempt: a conflict that runs the handler again does not write these a second time.
  return outer.once(`commitSeparately ${because}`, async () => {
    const { clock, ids } = outer.node;
    for (;;) {
      const inner = new Invocation({
        ...outer.frame,
        mode: "write",
        id: `${outer.frame.id}/${ids.next()}`,
        signal: outer.frame.signal,
        journal: undefined,
        guard: undefined,
        first: false,
      });
      try {
        const answer = await write(Object.fromEntries(bound.map(([name, component]) => [name, inner.handle(component)])) as H);
        const unread = inner.unreadRefusal();
        if (unread !== undefined)
          throw Fault.create(
            "outcome.refusal-unread",
            `commitSeparately (${because}) ended without looking at a refusal: ${unread}`,
            "Look at `.ok` of what the command answered, and say what then.",
          );
        outer.assertOpen();
        const outcome = await inner.commit({ keep: true, judge: true, writes: [], expects: [], journal: "drop" });
        if (outcome.ok) return answer;
        const fault = refusalOf(outer.frame.component, outcome);
        if (fault) throw fault;
        if (outcome.refused === "fenced" || clock.monotonicMs() >= outer.frame.deadlineMs)
          throw Fault.create("commit.conflict", `commitSeparately (${because}) was refused: ${outcome.refused}`, "Let the handler fail: it is run again.");
      } finally {
        inner.settle();
      }
    }
  });
}
