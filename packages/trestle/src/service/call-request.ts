/** A call of a typed client before it is a request: its parts, who makes it, and where it would go. */
import type { Principal } from "../component/index.ts";
import { Fault } from "../kernel/index.ts";
import type { Operation } from "./operation.ts";

export interface CallRequest {
  readonly params?: Readonly<Record<string, unknown>>;
  readonly query?: Readonly<Record<string, unknown>>;
  readonly body?: unknown;
}
/** Who calls. */
export interface Caller {
  readonly tenant: string | undefined;
  readonly principal: Principal | undefined;
  /** Whose idempotency key it is. */
  readonly scope: string;
  readonly signal: AbortSignal | undefined;
}

/** Path and query as a URL would carry them. */
export function targetOf(operation: Operation, { params = {}, query = {} }: CallRequest): string {
  const path = operation.path.replaceAll(/:(\w+)/g, (_all, name: string) => {
    const value = params[name];
    if (value === undefined || value === null || value === "")
      throw Fault.create("request.params-invalid", `${operation.title} needs the path parameter ${JSON.stringify(name)}`, "Pass it under `params`.");
    return encodeURIComponent(textOf(value));
  });
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? (value as unknown[]) : [value]) if (one !== undefined && one !== null) search.append(name, textOf(one));
  }
  return search.size === 0 ? path : `${path}?${search.toString()}`;
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : typeof value === "object" ? JSON.stringify(value) : String(value);
}
