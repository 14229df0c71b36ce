/**
 * Prepared statements by name of a connection, and the few conversions between SQLite's values and the port's.
 *
 * A limit is written `limit ? + 0`: SQLite looks into a bare `limit ?` when it makes the plan, and so prepares the statement again whenever
 * the value is set: 11 µs and more for each run of the shortest one (plans.test.ts).
 */
import type { DatabaseSync, SQLInputValue, StatementSync } from "node:sqlite";

export type Row = readonly (string | number | bigint | Uint8Array | null)[];

/** A prepared statement whose rows are arrays: half the cost of objects. */
export interface Prepared {
  run(...parameters: SQLInputValue[]): number;
  get(...parameters: SQLInputValue[]): Row | undefined;
  all(...parameters: SQLInputValue[]): readonly Row[];
}

/** Prepares each text once per connection, on first use. */
export function preparing(db: DatabaseSync): (text: string) => Prepared {
  const known = preparedOf.get(db) ?? new Map<string, Prepared>();
  preparedOf.set(db, known);
  return (text) => {
    let prepared = known.get(text);
    // Texts that name a window of tokens change with time; starting over now and then costs nothing that can be measured.
    if (!prepared && known.size >= 512) known.clear();
    if (!prepared) known.set(text, (prepared = prepare(db, text)));
    return prepared;
  };
}

/** Whoever opens a lane or a reader on a connection that has had one finds its statements: preparing them is most of what opening costs. */
const preparedOf = new WeakMap<DatabaseSync, Map<string, Prepared>>();

export function prepare(db: DatabaseSync, text: string): Prepared {
  const statement: StatementSync = db.prepare(text);
  statement.setReturnArrays(true);
  return {
    run: (...parameters) => statement.run(...parameters).changes as number,
    get: (...parameters) => statement.get(...parameters) as unknown as Row | undefined,
    all: (...parameters) => statement.all(...parameters) as unknown as readonly Row[],
  };
}

const nibble = new Uint8Array(128);
for (let i = 0; i < 16; i++) {
  nibble[i.toString(16).charCodeAt(0)] = i;
  nibble[i.toString(16).toUpperCase().charCodeAt(0)] = i;
}
// The positions of the sixteen bytes in the text form.
const offsets = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];

/** The sixteen bytes of a UUID's text. */
export function idBytes(id: string, into = new Uint8Array(16)): Uint8Array {
  for (let i = 0; i < 16; i++) {
    const at = offsets[i] as number;
    into[i] = ((nibble[id.charCodeAt(at) & 127] as number) << 4) | (nibble[id.charCodeAt(at + 1) & 127] as number);
  }
  return into;
}

/** When an id was minted: the first 48 bits of a UUIDv7. That it is one was checked where it came in. */
export function msOfId(bytes: Uint8Array): number {
  const at = (i: number) => bytes[i] as number;
  return (at(0) * 256 + at(1)) * 0x1_0000_0000 + (((at(2) << 24) | (at(3) << 16) | (at(4) << 8) | at(5)) >>> 0);
}

const hex = Array.from({ length: 256 }, (_, n) => n.toString(16).padStart(2, "0"));

export function idText(bytes: Uint8Array): string {
  let text = "";
  for (let i = 0; i < 16; i++) text += (i === 4 || i === 6 || i === 8 || i === 10 ? "-" : "") + (hex[bytes[i] as number] as string);
  return text;
}

/** The component and tenant a key belongs to: everything up to its second slash. */
export function homeOf(key: string): string {
  const first = key.indexOf("/");
  const second = first < 0 ? -1 : key.indexOf("/", first + 1);
  return second < 0 ? key : key.slice(0, second + 1);
}

/**
 * The smallest text above every text that starts with `prefix`, by UTF-8 bytes; `undefined` when there is none. Code points
 * order as their UTF-8 bytes do, so it is enough to raise the last one; surrogates are stepped over.
 */
export function afterPrefix(prefix: string): string | undefined {
  const points = Array.from(prefix, (point) => point.codePointAt(0) as number);
  for (let last = points.pop(); last !== undefined; last = points.pop()) {
    if (last >= 0x10_ffff) continue;
    return String.fromCodePoint(...points, last === 0xd7ff ? 0xe000 : last + 1);
  }
  return undefined;
}

/** Keys of a commit as one text: NUL cannot occur in a key. The first letter says what it names: r record, s stream, t token, q queue, u user tables. */
export const keysText = (keys: readonly string[]): string => keys.join("\u0000");
export const keysOf = (text: string): string[] => (text === "" ? [] : text.split("\u0000"));
