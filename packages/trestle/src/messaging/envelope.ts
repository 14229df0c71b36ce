/**
 * What lies in a job's payload: the message, and what travels with it without being passed on. JSON:
 * `{"v":1,"type":"welcome","tenant":"acme","by":"<invocation that sent it>","correlation":"<id>","cause":"<id>","schema":2,"priority":"low","trace":"<traceparent>","data":…}`;
 * absent facts are left out. `v` is the envelope's own version; what kind of message it is, its queue and `type` say.
 */
import { bytesOf, compressed, decode, encodeText, type Invocation } from "../component/index.ts";
import { currentContext } from "../kernel/index.ts";

export interface Envelope {
  readonly v: 1;
  readonly data: unknown;
  /** Of a queue with several types of messages. */
  readonly type?: string;
  readonly tenant?: string;
  /** The invocation that sent it. */
  readonly by?: string;
  /** Of what set it off. */
  readonly correlation?: string;
  /** The event it is of, when it is one. */
  readonly cause?: string;
  /** Schema version of the message; default 1. */
  readonly schema?: number;
  /** W3C traceparent of the span in which it was sent. */
  readonly trace?: string;
  /** As it was sent, unless `normal`: what its handler sends and calls has the same. */
  readonly priority?: "high" | "low";
}

export interface Sender {
  readonly tenant: string | undefined;
  readonly by: string | undefined;
  readonly trace: string | undefined;
  readonly correlation?: string | undefined;
  readonly cause?: string | undefined;
  readonly schema?: number | undefined;
}

export function senderOf(invocation: Invocation): Sender {
  const { id, correlation = id } = invocation.frame;
  return { tenant: invocation.tenant, by: id, trace: currentContext().traceparent, correlation };
}

/** `what` is named in the fault when the message is no JSON: `message of queue "mail"`. */
export function seal(
  message: unknown,
  sender: Sender,
  what: string,
  {
    type,
    above,
    priority = "normal",
  }: { readonly type?: string | undefined; readonly above?: number | undefined; readonly priority?: "high" | "normal" | "low" } = {},
): Uint8Array {
  const body = encodeText(message, what); // by itself, so that a fault names the path within the message
  let head = '{"v":1';
  if (type !== undefined) head += `,"type":${JSON.stringify(type)}`;
  if (sender.tenant !== undefined) head += `,"tenant":${JSON.stringify(sender.tenant)}`;
  if (sender.by !== undefined) head += `,"by":${JSON.stringify(sender.by)}`;
  if (sender.correlation !== undefined) head += `,"correlation":${JSON.stringify(sender.correlation)}`;
  if (sender.cause !== undefined) head += `,"cause":${JSON.stringify(sender.cause)}`;
  if (sender.schema !== undefined && sender.schema !== 1) head += `,"schema":${sender.schema}`;
  if (priority !== "normal") head += `,"priority":"${priority}"`;
  if (sender.trace !== undefined) head += `,"trace":${JSON.stringify(sender.trace)}`;
  return compressed(bytesOf(`${head},"data":${body}}`), above);
}

/** `undefined` for bytes that no version of this code has written. */
export function unseal(payload: Uint8Array): Envelope | undefined {
  try {
    const envelope = decode(payload) as Partial<Envelope> | null;
    if (typeof envelope === "object" && envelope !== null && envelope.v === 1 && "data" in envelope) return envelope as Envelope;
  } catch {
    // no JSON: answered below
  }
  return undefined;
}

/** The same message with other contents: who sent it, when and for whom stays. `undefined` when the payload is none of ours. */
export function editedMessage(payload: Uint8Array, data: unknown, what: string): Uint8Array | undefined {
  const envelope = unseal(payload);
  return envelope && bytesOf(encodeText({ ...envelope, data }, what));
}

/** A user's key within one tenant, so that no tenant's keys can meet another's. */
export function tenantKey(tenant: string | undefined, key: string): string {
  return `${tenant === undefined ? "" : encodeURIComponent(tenant)}/${key}`;
}
