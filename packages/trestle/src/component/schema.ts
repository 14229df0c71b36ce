/**
 * Schemas are any Standard Schema (zod, valibot, arktype…). They live in a component's interface, at the doors where
 * values enter: requests, messages, events, keys, rows, answers of foreign systems.
 *
 * Rule of the wire: the sender's side is typed by `In`, the receiver's by `Out`. What is stored is `In`; it is parsed
 * when it is read, so a schema that transforms or fills in defaults is also the upcaster of old messages and events.
 */
import type { StandardSchemaV1 } from "@standard-schema/spec";
import { Fault } from "../kernel/index.ts";

export type Schema<Input = any, Output = any> = StandardSchemaV1<Input, Output>;
/** What a writer may pass. */
export type In<S extends Schema> = StandardSchemaV1.InferInput<S>;
/** What a reader gets. */
export type Out<S extends Schema> = StandardSchemaV1.InferOutput<S>;

/** `(x: {a: string})` when there is something to pass, `(x?: {})` when there is nothing that must be passed. */
export type Payload<T> = {} extends T ? [payload?: T] : [payload: T];

/** One complaint of a schema: `items[0].quantity: must be positive`. */
export interface Issue {
  readonly path: string;
  readonly message: string;
}

export type Parsed<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly issues: readonly Issue[] };

/** Parses, and answers at once when the schema does. */
export function parse<S extends Schema>(schema: S, value: unknown): Parsed<Out<S>> | Promise<Parsed<Out<S>>> {
  const result = schema["~standard"].validate(value);
  return result instanceof Promise ? result.then(toParsed<Out<S>>) : toParsed<Out<S>>(result);
}

/** Parses where only a synchronous schema can work: staging is synchronous. */
export function parseNow<S extends Schema>(schema: S, value: unknown, what: string): Out<S> {
  const parsed = parse(schema, value);
  if (parsed instanceof Promise)
    throw Fault.create(
      "schema.asynchronous",
      `the schema of ${what} answers asynchronously; here the value is needed at once`,
      "Use a schema without asynchronous checks, and make such checks in the handler.",
    );
  return valueOf(parsed, what);
}

/** Parses what was stored or came back, at once when the schema does; a value that does not fit is a fault with every path. */
export function parseOrFault<S extends Schema>(schema: S, value: unknown, what: string): Out<S> | Promise<Out<S>> {
  const parsed = parse(schema, value);
  return parsed instanceof Promise ? parsed.then((late) => valueOf(late, what)) : valueOf(parsed, what);
}

function valueOf<T>(parsed: Parsed<T>, what: string): T {
  if (!parsed.ok) throw invalid(what, parsed.issues);
  return parsed.value;
}

function invalid(what: string, issues: readonly Issue[]): Fault {
  const listed = issues
    .slice(0, 5)
    .map(({ path, message }) => (path === "" ? message : `${path}: ${message}`))
    .join("; ");
  return Fault.create("payload.invalid", `${what} does not fit its schema: ${listed}`, "Send a value that the component's schema accepts.", {
    details: { issues },
  });
}

function toParsed<T>(result: StandardSchemaV1.Result<T>): Parsed<T> {
  return result.issues
    ? { ok: false, issues: result.issues.map((issue) => ({ path: pathOf(issue), message: issue.message })) }
    : { ok: true, value: result.value };
}

function pathOf(issue: StandardSchemaV1.Issue): string {
  let path = "";
  for (const segment of issue.path ?? []) {
    const key = typeof segment === "object" ? segment.key : segment;
    path += typeof key === "number" ? `[${key}]` : path === "" ? String(key) : `.${String(key)}`;
  }
  return path;
}
