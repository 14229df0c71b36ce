/**
 * Expected outcomes are values; faults are thrown.
 *
 * An operation that may be declined answers `{ ok: true, … } | { ok: false, refused: "code", …facts }`.
 * A refusal that nobody looked at fails the handler (`outcome.refusal-unread`): ignoring one is a fault, not an accident.
 */
export interface Refused<Code extends string = string> {
  readonly ok: false;
  /** Why, as a stable code: `"out-of-stock"`. */
  readonly refused: Code;
}

/** A refusal, with the facts its reader needs: `refuse("out-of-stock", { left: 3 })`. */
export function refuse<const Code extends string>(code: Code): Refused<Code>;
export function refuse<const Code extends string, Facts extends object>(code: Code, facts: Facts): Refused<Code> & Facts;
export function refuse(code: string, facts?: object): Refused {
  return { ...facts, ok: false, refused: code };
}

export function isRefused(value: unknown): value is Refused {
  return (
    typeof value === "object" && value !== null && (value as { ok?: unknown }).ok === false && typeof (value as { refused?: unknown }).refused === "string"
  );
}
