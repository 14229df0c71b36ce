/** A service that another process runs, asked over HTTP. */
import type { Exchange, Outside, Refused } from "../component/index.ts";
import { exchange } from "../external/index.ts";
import { contextHeaders, currentContext, deadlineExceeded, Fault, linkSignals, type Clock } from "../kernel/index.ts";
import { targetOf, type Caller, type CallRequest } from "./call-request.ts";
import type { Operation } from "./operation.ts";
import { isProblem, problemType, refusalOfProblem } from "./problem.ts";
import { callAnswerOf } from "./reply-wire.ts";

interface RemoteOptions {
  readonly caller: Caller;
  readonly key: string | undefined;
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly outside: Outside | undefined;
}

/**
 * Answers `{ ok, status, body }`, a declared refusal, or a Response that is no JSON. Faults: `external.unreachable`, `external.outcome-unknown`,
 * `external.refused` for an error answer that the operation does not declare.
 */
export async function callRemotely(
  url: string,
  operation: Operation,
  request: CallRequest,
  options: RemoteOptions,
): Promise<{ readonly ok: true; readonly status: number; readonly body: unknown } | Refused | Response> {
  const { caller, key, timeoutMs, clock, outside } = options;
  using link = linkSignals(caller.signal);
  const timer = Number.isFinite(timeoutMs) ? clock.after(timeoutMs, () => link.abort(deadlineExceeded(timeoutMs, "call"))) : undefined;
  const asked: Exchange = {
    method: operation.method,
    url: url.replace(/\/$/, "") + targetOf(operation, request),
    headers: {
      ...(request.body === undefined ? {} : { "content-type": "application/json" }),
      ...(key === undefined ? {} : { "idempotency-key": key }),
      ...contextHeaders(currentContext(), { remainingMs: timeoutMs }),
    },
    body: request.body === undefined ? undefined : JSON.stringify(request.body),
    signal: link.signal,
  };
  const who = `service "${operation.service}", ${operation.name}`;
  const { status, headers, text } = await exchange(who, asked, outside && ((one) => outside.exchange(one))).finally(() => timer?.cancel());
  const contentType = headers["content-type"] ?? "";
  if (status >= 200 && status < 300) return callAnswerOf({ status, headers, body: text === "" ? undefined : text, refused: false });
  if (contentType.startsWith(problemType)) {
    const problem = parsed(text);
    if (isProblem(problem)) {
      if (Object.hasOwn(operation.refuses, problem.code)) return refusalOfProblem(problem);
      if (problem["unfinished"] === true)
        throw Fault.create("external.outcome-unknown", `${who} has begun and is not finished: ${problem.detail}`, "Ask again with the same key.", {
          details: { status },
        });
      // Its faults are ours by code, where the code says something to a caller.
      if (problem.code === "idempotency.in-flight")
        throw Fault.create("idempotency.in-flight", `${who}: ${problem.detail}`, "Ask again in a moment, with the same key.");
      if (problem.code === "request.not-admitted" || problem.code === "request.share-exceeded")
        throw Fault.create(problem.code, `${who}: ${problem.detail}`, "Ask again after details.retryAfterMs: nothing was done.", {
          details: { reason: problem["reason"], retryAfterMs: problem["retryAfterMs"] },
        });
    }
  }
  if (status >= 500)
    throw Fault.create(
      "external.outcome-unknown",
      `${who} answered ${status}: ${text.slice(0, 200)}; it may have acted on it`,
      "Ask again with the same key where there is one.",
      { details: { status } },
    );
  throw Fault.create("external.refused", `${who} answered ${status}: ${text.slice(0, 200)}`, "Correct what was sent.", { details: { status } });
}

/** The items of a remote event stream. It ends with the connection; whoever follows it connects again. */
export async function* streamRemotely(url: string, operation: Operation, request: CallRequest, caller: Caller): AsyncGenerator<unknown, void, void> {
  const who = `service "${operation.service}", ${operation.name}`;
  const response = await fetch(url.replace(/\/$/, "") + targetOf(operation, request), {
    headers: { accept: "text/event-stream" },
    signal: caller.signal ?? null,
  });
  if (!response.ok || !response.body)
    throw Fault.create("external.refused", `${who} answered ${response.status} where a stream was asked for`, "Check the url, and what is really behind it.", {
      details: { status: response.status },
    });
  let rest = "";
  for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
    const events = (rest + text).split("\n\n");
    rest = events.pop() ?? "";
    for (const event of events) {
      const lines = event.split("\n");
      const data = lines
        .filter((line) => line.startsWith("data: "))
        .map((line) => line.slice(6))
        .join("\n");
      if (data === "") continue;
      if (lines.includes("event: error")) throw Fault.create("external.unreachable", `${who} ended its stream: ${data.slice(0, 200)}`, "Connect again.");
      yield JSON.parse(data);
    }
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
