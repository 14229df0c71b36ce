/** What the job that finishes an idempotent request carries. */
import { encode } from "../component/index.ts";
import { currentContext } from "../kernel/index.ts";
import type { StoreKey } from "../store/index.ts";
import type { Question, Served } from "./invoke.ts";

export function completionQueue(service: string): string {
  return `~requests-${service}`;
}

/** What whoever finishes the request needs of it. Headers are not kept: they may carry what should not be stored. */
export interface Completion {
  readonly operation: string;
  readonly token: StoreKey;
  readonly fingerprint: string;
  readonly invocation: string;
  readonly correlation?: string;
  readonly tenant?: string;
  readonly principal?: { readonly id: string; readonly kind: "user" | "service" };
  readonly params: unknown;
  readonly query: unknown;
  readonly target: string;
  readonly text: string;
}

export function completionPayload(served: Served, question: Question, token: StoreKey, fingerprint: string, invocation: string): Uint8Array {
  const { tenant, principal, raw, target, text } = question;
  const completion: Completion = {
    operation: served.operation.name,
    token,
    fingerprint,
    invocation,
    params: raw.params,
    query: raw.query,
    target,
    text,
    ...(currentContext().correlation === undefined ? {} : { correlation: currentContext().correlation as string }),
    ...(tenant === undefined ? {} : { tenant }),
    ...(principal ? { principal: { id: principal.id, kind: principal.kind } } : {}),
  };
  return encode(completion, `request ${served.operation.title}`);
}
