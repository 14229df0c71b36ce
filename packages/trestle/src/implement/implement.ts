/**
 * implement: the handler of an interface that was declared without one. Interfaces use nothing, so parts that need each
 * other are no cycle: declare both interfaces, then implement both. It is also how one process declares what another runs.
 *
 * An implementation runs, and is seen in graph, metrics and traces, under the name of its interface.
 */
import {
  declareUnchecked,
  definitionOf,
  type AwaitedName,
  type Component,
  type Context,
  type DurableContext,
  type Handles,
  type Inherit,
  type Open,
  type Refused,
  type Uses,
  type WriteContext,
} from "../component/index.ts";
import { Fault } from "../kernel/index.ts";
import type { JobContext, JobEnd, Messages, QueueWork } from "../messaging/index.ts";
import type { Call, IdempotentCall, Incoming, Reply, SafeCall, Service } from "../service/index.ts";

export function implement<C extends Component & Open<string>, U extends Uses = {}>(
  open: C,
  spec: QueueWork<U>,
  behaviour: Behaviour<C, U>,
): Implementation<AwaitedName<C>> & Inherit<U> {
  const { open: implementing } = definitionOf(open);
  if (!implementing)
    throw Fault.create(
      "app.implemented-twice",
      `${open.kind} "${open.name}" has its handler already, so it cannot be implemented`,
      "Declare it without a handler, or leave out implement(…).",
    );
  // No identity of its own: state and messages belong to the interface. The name is for faults.
  return declareUnchecked<Component<"implementation">>("implementation", `${open.name} (implementation)`, {
    edge: "call",
    implements: open,
    ...implementing(spec, behaviour),
  }) as unknown as Implementation<AwaitedName<C>> & Inherit<U>;
}

export interface Implementation<Name extends string> extends Component<"implementation"> {
  readonly "~implements": Name;
}

/** One signature for all kinds, so the compiler's complaint is about the handler and not about overloads. */
export type Behaviour<C, U extends Uses> =
  C extends Service<infer O> ? { readonly [K in keyof O]: OperationHandler<O[K], U> } : C extends Open<string, infer T> ? Taking<T, U> : never;
type Taking<T, U extends Uses> = T extends Messages<infer Message> ? (message: Message, uses: Handles<U>, job: JobContext) => JobEnd | Promise<JobEnd> : never;

type OperationHandler<O, U extends Uses> =
  O extends SafeCall<infer Request, infer Answer>
    ? (request: Whole<Request>, uses: Handles<U, "read">, context: Context) => AnswerIn<Answer> | Promise<AnswerIn<Answer>>
    : O extends IdempotentCall<infer Request, infer Answer>
      ? (request: Whole<Request>, uses: Handles<U>, context: DurableContext) => AnswerIn<Answer> | Promise<AnswerIn<Answer>>
      : O extends Call<infer Request, infer Answer>
        ? (request: Whole<Request>, uses: Handles<U, "write">, context: WriteContext) => AnswerIn<Answer> | Promise<AnswerIn<Answer>>
        : never;
type Whole<Request> = Request & Pick<Incoming<{}, {}, undefined>, "raw">;
type AnswerIn<Answer> = Answer extends Reply<number, infer Body> ? Body | Answer : Answer extends Refused ? Answer : Answer;
