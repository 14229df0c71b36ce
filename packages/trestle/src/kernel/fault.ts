/**
 * A fault means that someone must change something. Its `code` never changes meaning, its `remedy` says what to do, and
 * each code has an entry in docs/reference/faults.md. What a correct caller must expect is a return value, not a fault.
 */

/** The codes a caller may want to tell apart. Any other `part.what` is accepted, so that adapters can add theirs. */
export type FaultCode =
  | "breaker.open"
  | "commit.conflict"
  | "commit.unknown"
  | "deadline.exceeded"
  | "external.outcome-unknown"
  | "external.refused"
  | "external.unreachable"
  | "handle.outlived-its-handler"
  | "handler.diverged"
  | "outcome.refusal-unread"
  | "queue.full"
  | "store.overloaded"
  | (`${string}.${string}` & {});

export interface Fault<Code extends string = string> extends Error {
  readonly code: Code;
  readonly remedy: string;
  readonly details: Readonly<Record<string, unknown>>;
}

export interface FaultOptions {
  readonly cause?: unknown;
  readonly details?: Readonly<Record<string, unknown>>;
}

// A brand instead of `instanceof`: two copies of the package in one process still recognise each other's faults.
const brand = Symbol.for("trestle.fault");

class FaultError extends Error implements Fault {
  declare readonly code: string;
  declare readonly remedy: string;
  declare readonly details: Readonly<Record<string, unknown>>;
  readonly [brand] = true;

  constructor(code: string, message: string, remedy: string, options: FaultOptions) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "Fault";
    this.code = code;
    this.remedy = remedy;
    this.details = options.details ?? {};
  }
}

export const Fault = {
  /** Is this thrown value a fault, and (when a code is given) one of this code? */
  is<const Code extends FaultCode>(thrown: unknown, code?: Code): thrown is Fault<Code> {
    const fault = thrown as Partial<FaultError> | null | undefined;
    return fault?.[brand] === true && (code === undefined || fault.code === code);
  },
  /** A fault of your own, when code must stop. Codes are `part.what-happened`. */
  create(code: `${string}.${string}`, message: string, remedy: string, options: FaultOptions = {}): Fault {
    const fault = new FaultError(code, message, remedy, options);
    Error.captureStackTrace(fault, Fault.create); // the first frame is whoever ran into it
    return fault;
  },
};
