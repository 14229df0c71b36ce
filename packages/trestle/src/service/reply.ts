/** What a handler may answer besides a plain value: a reply with a status, and whole responses. */
import { Fault } from "../kernel/index.ts";

export interface Reply<Status extends number, Body> {
  readonly ok: true;
  readonly status: Status;
  readonly body: Body;
}

export type ReplyHeaders = Readonly<Record<string, string>>;

// Beside the reply and not in it: callers of a service see status and body, and headers belong to the wire.
const headersOfReply = new WeakMap<object, ReplyHeaders>();

function reply<Status extends number, Body>(status: Status, body: Body, headers: ReplyHeaders | undefined): Reply<Status, Body> {
  const made = { ok: true, status, body } as const;
  if (headers) {
    for (const [name, value] of Object.entries(headers)) assertHeader(name, value); // here, before anything is committed
    headersOfReply.set(made, headers);
  }
  return made;
}

function assertHeader(name: string, value: string): void {
  if (/^[!#$%&'*+.^_`|~\w-]+$/.test(name) && typeof value === "string" && /^[\t\x20-\x7e\x80-\xff]*$/.test(value)) return;
  throw Fault.create(
    "service.bad-header",
    `a header of a reply must have a token as its name and one line of Latin-1 as its value, got ${JSON.stringify(`${name}: ${String(value)}`.slice(0, 100))}`,
    "Encode the value, for example with encodeURIComponent.",
  );
}

export function ok<const Body>(body: Body, headers?: ReplyHeaders): Reply<200, Body> {
  return reply(200, body, headers);
}
export function created<const Body>(body: Body, headers?: ReplyHeaders): Reply<201, Body> {
  return reply(201, body, headers);
}
export function accepted<const Body>(body: Body, headers?: ReplyHeaders): Reply<202, Body> {
  return reply(202, body, headers);
}
export function noContent(): Reply<204, undefined> {
  return reply(204, undefined, undefined);
}
export function html(source: string | ReadableStream): Response {
  return new Response(source, { headers: { "content-type": "text/html; charset=utf-8" } });
}

export function headersOf(made: object): ReplyHeaders | undefined {
  return headersOfReply.get(made);
}

export function isReply(answer: unknown): answer is Reply<number, unknown> {
  return (
    typeof answer === "object" &&
    answer !== null &&
    (answer as { ok?: unknown }).ok === true &&
    typeof (answer as { status?: unknown }).status === "number" &&
    "body" in answer
  );
}
