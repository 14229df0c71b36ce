/** Conformance cases are data: any engine's tests, and any runner, can run them. A case makes keys of its own, so cases may share a store. */
import type { Ids } from "../kernel/index.ts";

export interface Case<Subject> {
  /** A promise, as a sentence. It is unique within its list. */
  readonly name: string;
  /** The guarantee id it belongs to. */
  readonly guarantee: string;
  /** Rejects when the promise is broken. */
  run(subject: Subject): Promise<void>;
}

/** What the cases need beside the engine. */
export interface CaseTools {
  readonly ids: Ids;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();
export const bytes = (text: string): Uint8Array => encoder.encode(text);
export const text = (value: Uint8Array | undefined): string | undefined => (value === undefined ? undefined : decoder.decode(value));

/** Keys nobody used before. */
export const freshKey = ({ ids }: CaseTools, name = "case"): string => `conformance//${name}-${ids.next()}`;
