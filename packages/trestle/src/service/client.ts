/**
 * A service as a typed client: for handlers that list it under `uses`, and for `node.open`. In this process the call goes through the same
 * checks and the same run as a request; by URL when another process runs the service. Either way the answer has been through JSON, so that
 * it is the same wherever the service runs.
 *
 * Changing calls are recovery points. An idempotent one gets a key from the caller's invocation, so asking again after a crash repeats the
 * answer; any other one whose answer was lost is refused as `outcome-unknown`, and the caller says what then.
 *
 * The end of an idempotent call is *unknown* once a run may have reached the service and none has had an answer, in this run or an earlier one. A fault is no answer: neither one of the way there, nor
 * one of the route itself, which behind a recovery point leaves a request that will be finished.
 */
import { isRefused, type Component, type Invocation, type NodeServices, type Refused } from "../component/index.ts";
import { Fault, remainingMs } from "../kernel/index.ts";
import { invoke, type Question, type Served } from "./invoke.ts";
import { operationHere } from "./interior.ts";
import { notHere, type Operation, type Raw } from "./operation.ts";
import { mayHaveHappened } from "./problem.ts";
import { callRemotely, streamRemotely } from "./remote.ts";
import { callAnswerOf } from "./reply-wire.ts";
import { stateOf } from "./state.ts";
import { itemsOf, openStream } from "./stream.ts";
import { targetOf, type Caller, type CallRequest } from "./call-request.ts";

type CallMethod = (request?: CallRequest) => Promise<unknown>;

/** The handle of a service in a handler. */
export function bindClient(component: Component, operations: ReadonlyMap<string, Operation>, invocation: Invocation): object {
  const { node, frame } = invocation;
  const caller: Caller = { tenant: frame.tenant, principal: frame.principal, scope: `component:${frame.component.name}`, signal: frame.signal };
  const client: Record<string, CallMethod> = {};
  for (const [name, operation] of operations) {
    client[name] = async (request = {}) => {
      invocation.assertOpen();
      return watched(invocation, operation, await (operation.mode === "read" ? look(operation, request) : change(operation, request)));
    };
  }
  return client;

  function look(operation: Operation, request: CallRequest): Promise<unknown> {
    const ask = () => call(component, node, operation, request, caller, undefined);
    return operation.streams ? ask() : invocation.recall(`${operation.title} ${JSON.stringify(request)}`, ask);
  }

  function change(operation: Operation, request: CallRequest): Promise<unknown> {
    const key = invocation.callKey(operation.title, request);
    return invocation.recoveryPoint<unknown>({
      operation: operation.title,
      key,
      async run(resumed) {
        if (resumed && !operation.idempotent) return outcomeUnknown;
        try {
          return await call(component, node, operation, request, caller, key);
        } catch (fault) {
          if (!operation.idempotent && mayHaveHappened(fault)) return outcomeUnknown;
          if (resumed && !mayHaveHappened(fault)) throw open(operation, fault, "it may have acted on an earlier call");
          throw fault;
        }
      },
      isNotMade: (fault) => !mayHaveHappened(fault),
      isUnknown: (fault) => operation.idempotent !== undefined && mayHaveHappened(fault),
    });
  }
}

/** The service outside handlers: each call by itself, with a key of its own where one is needed. */
export function openClient(component: Component, operations: ReadonlyMap<string, Operation>, node: NodeServices): object {
  const caller: Caller = { tenant: undefined, principal: undefined, scope: "component:", signal: undefined };
  return Object.fromEntries(
    [...operations].map(([name, operation]): [string, CallMethod] => [
      name,
      (request = {}) => call(component, node, operation, request, caller, operation.idempotent && node.ids.next()),
    ]),
  );
}

function open({ service, name }: Operation, cause: unknown, why: string): Fault {
  return Fault.create(
    "external.outcome-unknown",
    `service "${service}", ${name}: ${why} (${cause instanceof Error ? cause.message : String(cause)})`,
    "Ask again with the same key where there is one.",
    { cause, details: Fault.is(cause) ? cause.details : {} },
  );
}

const outcomeUnknown: Refused<"outcome-unknown"> = { ok: false, refused: "outcome-unknown" };

function watched(invocation: Invocation, operation: Operation, answer: unknown): unknown {
  return isRefused(answer) ? invocation.watchRefusal({ ...answer }, operation.title) : answer;
}

async function call(
  component: Component,
  node: NodeServices,
  operation: Operation,
  request: CallRequest,
  caller: Caller,
  key: string | undefined,
): Promise<unknown> {
  const url = node.serviceUrl(operation.service);
  if (url !== undefined) {
    return operation.streams
      ? streamRemotely(url, operation, request, caller)
      : callRemotely(url, operation, request, {
          caller,
          key,
          timeoutMs: Math.min(operation.timeoutMs, remainingMs(node.clock)),
          clock: node.clock,
          outside: node.outside,
        });
  }
  const here = operationHere(component, operation, node);
  if (!here) throw notHere(operation.title);
  const served: Served = { operation: here, component, node, state: stateOf(component, node) };
  let unfinished = false;
  const question: Question = { ...questionOf(operation, request, caller, key), onUnfinished: () => void (unfinished = true) };
  if (operation.streams) return itemsOf(await openStream(served, question, undefined));
  const outcome = await invoke(served, question).catch((fault: unknown) => {
    throw unfinished && !mayHaveHappened(fault) ? open(operation, fault, "it has begun and will be finished") : fault;
  });
  return outcome.kind === "response" ? outcome.response : callAnswerOf(outcome.answer);
}

function questionOf(operation: Operation, request: CallRequest, caller: Caller, key: string | undefined): Question {
  const body = request.body;
  const text = body === undefined ? "" : JSON.stringify(body);
  const target = targetOf(operation, request);
  const raw: Raw = {
    params: request.params ?? {},
    query: request.query ?? {},
    body: text === "" ? undefined : JSON.parse(text),
    raw: () =>
      new Request(`http://localhost${target}`, {
        method: operation.method,
        ...(text === "" || operation.method === "GET" ? {} : { body: text, headers: { "content-type": "application/json" } }),
      }),
  };
  return {
    raw,
    tenant: caller.tenant,
    principal: caller.principal,
    scope: caller.scope,
    key,
    target,
    text,
    signal: operation.idempotent ? undefined : caller.signal,
  };
}
