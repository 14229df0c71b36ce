/**
 * Structured logs: one record, one line of JSON. Writing a record never throws and never blocks on its own account: whatever the
 * facts are (cycles, getters that throw, big integers, errors), a line comes out, of bounded size. Nothing is redacted here: what
 * must not be seen must not be passed in.
 */
import type { Clock } from "./clock.ts";
import { currentContext } from "./context.ts";
import { parseTraceparent } from "./trace.ts";

export type LogLevel = "debug" | "info" | "warn" | "error";

/** How code logs: a sentence without values, and the values as facts. */
export interface Log {
  debug(message: string, facts?: object): void;
  info(message: string, facts?: object): void;
  warn(message: string, facts?: object): void;
  error(message: string, facts?: object): void;
}

export interface Logger {
  log(level: LogLevel, message: string, facts?: object): void;
  /** Records that the sink did not take. */
  readonly lost: number;
}

export interface LoggerOptions {
  readonly clock: Clock;
  /** Takes one line, without its line end. Must not block; when it throws, the record is lost and counted. */
  readonly write: (line: string) => void;
  /** The least level written. Default `info`. */
  readonly level?: LogLevel;
}

const rank = { debug: 0, info: 1, warn: 2, error: 3 } as const;
const bounds = { depth: 6, items: 100, chars: 8_192, nodes: 2_000 } as const;

/** JSON lines: `{"time","level","message","traceId","spanId","tenant", ...facts}`; a fact that has one of these names is written as `facts.<name>`. */
export function jsonLogger(options: LoggerOptions): Logger {
  const { clock, write, level: least = "info" } = options;
  let lost = 0;
  return {
    get lost() {
      return lost;
    },
    log(level, message, facts) {
      if (rank[level] < rank[least]) return;
      try {
        const context = currentContext();
        const trace = parseTraceparent(context.traceparent);
        const record: Record<string, unknown> = { time: new Date(clock.wallMs()).toISOString(), level, message: cutText(String(message)) };
        if (trace) {
          record["traceId"] = trace.traceId;
          record["spanId"] = trace.spanId;
        }
        if (context.tenant !== undefined) record["tenant"] = context.tenant;
        if (facts) {
          const plain = plainJson(facts, 0, new Set(), { left: bounds.nodes });
          const fields = typeof plain === "object" && plain !== null && !Array.isArray(plain) ? plain : { facts: plain };
          for (const [name, value] of Object.entries(fields)) record[Object.hasOwn(record, name) ? `facts.${name}` : name] = value;
        }
        write(JSON.stringify(record));
      } catch {
        lost++;
      }
    },
  };
}

/** A Log that adds `facts` to every record. */
export function boundLog(logger: Pick<Logger, "log">, facts: object = {}): Log {
  const at = (level: LogLevel) => (message: string, more?: object) =>
    logger.log(level, message, more === undefined ? facts : more instanceof Error ? { ...facts, error: more } : { ...facts, ...more });
  return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}

function cutText(text: string): string {
  return text.length <= bounds.chars ? text : `${text.slice(0, bounds.chars)}… (${text.length} characters)`;
}

/** The value as JSON can carry it; what is cyclic, too deep or too much is replaced by a word that says so. */
function plainJson(value: unknown, depth: number, above: Set<object>, nodes: { left: number }): unknown {
  if (nodes.left-- <= 0) return "[cut]";
  switch (typeof value) {
    case "string":
      return cutText(value);
    case "bigint":
      return String(value);
    case "symbol":
    case "function":
      return `[${typeof value}]`;
    case "number":
      return Number.isFinite(value) ? value : String(value);
    case "object":
      break;
    default:
      return value;
  }
  if (value === null) return null;
  const object = value as object;
  if (above.has(object)) return "[cyclic]";
  if (depth >= bounds.depth) return "[deep]";
  above.add(object);
  try {
    return plainObject(object, depth, above, nodes);
  } catch (thrown) {
    return `[unreadable: ${thrown instanceof Error ? thrown.message : "threw"}]`;
  } finally {
    above.delete(object);
  }
}

function plainObject(object: object, depth: number, above: Set<object>, nodes: { left: number }): unknown {
  const inner = (value: unknown) => plainJson(value, depth + 1, above, nodes);
  if (object instanceof Error) {
    const out: Record<string, unknown> = {
      name: object.name,
      message: cutText(object.message),
      stack: object.stack === undefined ? undefined : cutText(object.stack),
    };
    if (object.cause !== undefined) out["cause"] = inner(object.cause);
    if (object instanceof AggregateError) out["errors"] = inner(object.errors);
    for (const [name, value] of Object.entries(object)) if (!(name in out)) out[name] = inner(value);
    return out;
  }
  if (ArrayBuffer.isView(object)) return `[${object.byteLength} bytes]`;
  if (Array.isArray(object))
    return object.length > bounds.items ? [...object.slice(0, bounds.items).map(inner), `[${object.length} items]`] : object.map(inner);
  if (object instanceof Map || object instanceof Set) return inner([...object]);
  const toJson = (object as { readonly toJSON?: unknown }).toJSON;
  if (typeof toJson === "function") return inner(toJson.call(object) as unknown);
  const out: Record<string, unknown> = {};
  let taken = 0;
  for (const name of Object.keys(object)) {
    if (taken++ === bounds.items) {
      out["…"] = `[${Object.keys(object).length} fields]`;
      break;
    }
    let member: unknown;
    try {
      member = (object as Record<string, unknown>)[name];
    } catch (thrown) {
      member = `[unreadable: ${thrown instanceof Error ? thrown.message : "threw"}]`;
    }
    // defineProperty: a fact named __proto__ is a name like any other
    Object.defineProperty(out, name, { value: inner(member), enumerable: true, configurable: true, writable: true });
  }
  return out;
}
