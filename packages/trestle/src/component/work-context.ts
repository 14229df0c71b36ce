/** The third argument of a handler. Members are bound when looked at, because handlers take them apart: `({}, {}, { newId, log })`. */
import type { DurableContext, Log, Principal } from "./context.ts";
import { Fault, type Instant } from "../kernel/index.ts";
import { componentOf, Invocation } from "./invocation.ts";
import { parseNow, type Out, type Schema } from "./schema.ts";

export class WorkContext implements DurableContext {
  readonly #invocation: Invocation;

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
      const key = `${invocation.frame.id}:${name}`;
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
  if (because.trim() === "") throw Fault.create("commit.separate-without-reason", "commitSeparately needs its reason, a text that says why these writes must stay when the handler fails; got an empty one", "Say why.");
  return outer.recall(`commitSeparately ${because}`, async () => {
    const inner = new Invocation({ ...outer.frame, mode: "write", id: `${outer.frame.id}/${outer.node.ids.next()}`, journal: undefined, guard: undefined });
    const bound = Object.fromEntries(Object.entries(handles).map(([name, handle]) => {
      const component = componentOf(handle as object);
      if (!component) throw Fault.create("commit.not-a-handle", `commitSeparately got ${JSON.stringify(name)}, which is not a handle of this handler`, "Pass the handles to write with: `{ attempts }`.");
      return [name, inner.handle(component)];
    })) as H;
    const answer = await write(bound);
    const outcome = await inner.commit({ keep: true, judge: true, writes: [], expects: [], journal: "drop" });
    if (!outcome.ok) throw Fault.create("commit.conflict", `commitSeparately (${because}) was refused: ${outcome.refused}`, "Let the handler fail: it is run again.");
    return answer;
  });
}
