/** Systems that are not the app's: how they behave in the world, in place of the code that would call them. */
import type { External, Mutation, Query } from "../external/index.ts";
import type { Outside, OutsideCall } from "../component/index.ts";
import { Fault } from "../kernel/index.ts";
import { chanceOf, type Chance } from "./chance.ts";
import { BrokenCall, type Network } from "./network.ts";
import { currentLife, type Host, type Life, type World } from "./world.ts";

/** How an external system behaves: made by `model`. */
export interface Model {
  readonly "~model": true;
}
/** What a model's function is told beside its input. */
export interface ModelWire {
  /** The call's idempotency key. */
  readonly key: string;
  readonly chance: Chance;
  /** Aborts when the call's connection is gone: for a system that gives up what nobody waits for. Of a mutation that came again under its key it is the first one's. */
  readonly signal: AbortSignal;
  /** What this system remembers in this world. A variable of the module would be shared by all seeds. */
  readonly memory: Map<string, unknown>;
}
type Behaviour = (input: unknown, wire: ModelWire) => unknown;
interface ModelOf extends Model {
  readonly name: string;
  readonly operations: Readonly<Record<string, Behaviour>>;
}

/**
 * How an external system behaves in the world, one function for each operation. It keeps the keys of mutations as good providers do: a call that
 * comes again under its key gets the first one's answer, and nothing is done twice. What a function throws is the answer: throw
 * `external.refused` for an answer of 4xx.
 */
export function model<O>(
  external: External<O>,
  behaviour: {
    readonly [K in keyof O]: O[K] extends Mutation<infer Input, infer Result> | Query<infer Input, infer Result>
      ? (input: Input, wire: ModelWire) => Result | Promise<Result>
      : never;
  },
): Model {
  const one: ModelOf = { "~model": true, name: external.name, operations: behaviour as unknown as ModelOf["operations"] };
  return one;
}

export const nameOfModel = (one: Model): string => (one as ModelOf).name;

interface Running {
  readonly host: Host;
  readonly operations: ModelOf["operations"];
  readonly chance: Chance;
  readonly memory: Map<string, unknown>;
  readonly answers: Map<string, Promise<unknown>>;
}

/** From wherever the call is made. */
export const exchangeHere: Outside["exchange"] = (asked) => (currentLife() as Life).exchange(asked);

/** The outside of one world: a host for each system. */
export function outsideOf(world: World, network: Network, models: readonly Model[]): Outside {
  const running = new Map<string, Running>();
  for (const { name, operations } of models as readonly ModelOf[]) {
    const host = world.host(name);
    const life = host.boot(() => undefined);
    running.set(name, { host, operations, chance: chanceOf(life.random), memory: new Map(), answers: new Map() });
  }
  const there = (name: string): Running => {
    const one = running.get(name);
    if (one) return one;
    throw Fault.create("simulation.no-model", `external "${name}" has no model in this simulation`, "Add `model(…)` of it to `outside`.");
  };
  async function ask(call: OutsideCall, label: string, answer: (one: Running, closed: () => AbortSignal) => unknown): Promise<unknown> {
    const one = there(call.external);
    try {
      return await network.call(
        currentLife() as Life,
        one.host,
        { label: `${call.external}.${label}`, mayComeTwice: true, signal: call.signal },
        async (_there, closed) => structuredClone(await answer(one, closed)),
      );
    } catch (error) {
      if (!(error instanceof BrokenCall)) throw error;
      throw error.how === "refused"
        ? Fault.create("external.unreachable", `external "${call.external}" cannot be reached`, "Check that it runs and that its url is right.", {
            cause: error,
          })
        : Fault.create(
            "external.outcome-unknown",
            `external "${call.external}" did not answer ${call.operation}; it may have acted on it`,
            "Ask it what became of the call before doing anything else, or call again with the same key.",
            { cause: error },
          );
    }
  }
  return {
    call: (call) =>
      ask(call, call.operation, async ({ operations, answers, chance, memory }, closed) => {
        const behave = operations[call.operation] as Behaviour;
        const wire: ModelWire = {
          key: call.key,
          chance,
          memory,
          get signal() {
            return closed();
          },
        };
        if (!call.changes) return behave(call.input, wire);
        const known = `${call.operation} ${call.key}`;
        const before = answers.get(known);
        if (before) return before;
        const answer = (async () => behave(call.input, wire))();
        answers.set(known, answer);
        answer.catch(() => answers.delete(known)); // it has not acted
        return answer;
      }),
    exchange: exchangeHere,
    lookup: (call) => ask(call, `lookup of ${call.operation}`, ({ answers }) => answers.get(`${call.operation} ${call.key}`)),
  };
}
