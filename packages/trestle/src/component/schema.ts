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

/**
 * A value that a schema has let through as it came, and what came: for the doors inside, which are often declared with the same schema (a
 * request's body is a command's input and then an event's data). To check it there again costs as much as reading it did.
 */
export interface Accepted {
  readonly schema: Schema;
  readonly value: object;
  /** Nobody else has it, so nobody has changed it since. */
  readonly came: object;
}

/** What is to be remembered of `value`, which is what `schema` has made of `came`: nothing, unless it is the same again in objects of its own. */
export function acceptedAs(schema: Schema, came: unknown, value: unknown): Accepted | undefined {
  return typeof value === "object" && value !== null && isCopy(value, came) ? { schema, value, came: came as object } : undefined;
}

/** What its schema would make of the value once more: a copy. `undefined` when somebody has changed it, and it has to be checked. */
export function acceptedAgain(accepted: Accepted): Accepted | undefined {
  const { schema, value, came } = accepted;
  return isCopy(value, came) ? { schema, value: copied(value), came } : undefined;
}

/** Plain JSON, equal to the other one, and no object of it is the other's. */
function isCopy(value: unknown, of: unknown): boolean {
  if (typeof value !== "object" || value === null) return value === of;
  if (typeof of !== "object" || of === null || value === of) return false;
  if (Array.isArray(value)) {
    if (!Array.isArray(of) || of.length !== value.length) return false;
    for (let at = 0; at < value.length; at++) if (!isCopy(value[at], of[at])) return false;
    return true;
  }
  if (Object.getPrototypeOf(value) !== Object.prototype || Array.isArray(of)) return false;
  let members = 0;
  for (const name in value) {
    if (name === "__proto__" || !Object.hasOwn(of, name)) return false;
    if (!isCopy((value as Record<string, unknown>)[name], (of as Record<string, unknown>)[name])) return false;
    members += 1;
  }
  return Object.keys(of).length === members;
}

function copied<T>(value: T): T {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(copied) as T;
  const copy: Record<string, unknown> = {};
  for (const name in value) copy[name] = copied(value[name]);
  return copy as T;
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
