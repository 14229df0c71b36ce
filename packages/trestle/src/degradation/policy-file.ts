/**
 * A file of policies: YAML 1.2, and so JSON too. What is wrong with it is told with its line. Followed, it is looked at once a second; a version that does not fit is told once
 * and changes nothing: the last good one stays.
 */
import { readFile, stat } from "node:fs/promises";
import { Fault, type Clock, type Timer } from "../kernel/index.ts";
import { badPolicy, rulesOf, type PlaceOf, type RouteRules } from "./policies.ts";
import type { Flaw } from "./schema-check.ts";

const bytesMax = 1_000_000;
const lookEveryMs = 1_000;

/** Further flaws, of who knows more than the policies say of themselves. */
export type KnownFlaws = (rules: readonly RouteRules[]) => readonly Flaw[];

export interface ReadPolicies {
  readonly rules: readonly RouteRules[];
  /** Another one when the file is another one. */
  readonly stamp: string;
}

/** Faults: `degradation.no-file`, `degradation.bad-policy` with lines. */
export async function readPolicies(path: string, known?: KnownFlaws): Promise<ReadPolicies> {
  const stamp = await stampOf(path); // before it is read: what is written meanwhile is seen as another version
  let text: string;
  try {
    if ((await stat(path)).size > 4 * bytesMax) throw tooLong(path);
    text = await readFile(path, "utf8");
  } catch (cause) {
    if (Fault.is(cause)) throw cause;
    throw Fault.create(
      "degradation.no-file",
      `${path} cannot be read: ${(cause as NodeJS.ErrnoException).code ?? (cause as Error).message}`,
      "Name the file of policies by its path, from where the app is started.",
      { cause },
    );
  }
  return { rules: await policiesOf(text, path, known), stamp };
}

function tooLong(from: string): Fault {
  return badPolicy(from, [{ path: [], rule: `must have at most ${bytesMax} characters` }], () => undefined);
}

function stampOf(path: string): Promise<string> {
  return stat(path).then(
    ({ mtimeMs, size, ino }) => `${mtimeMs} ${size} ${ino}`,
    () => "gone",
  );
}

/** `from` names the text in faults. Fault: `degradation.bad-policy`. */
export async function policiesOf(text: string, from: string, known?: KnownFlaws): Promise<readonly RouteRules[]> {
  if (text.length > bytesMax) throw tooLong(from);
  const { isNode, LineCounter, parseDocument } = await import("yaml"); // whoever has no file does not load it
  const lines = new LineCounter();
  const document = readable(from, () => parseDocument(text, { lineCounter: lines, prettyErrors: false }));
  const at = (offset: number) => {
    const { line, col } = lines.linePos(offset);
    return `line ${line}, column ${col}`;
  };
  // Of what is missing, the place of what it is missing from.
  const placeOf: PlaceOf = (path) => {
    for (let length = path.length; length >= 0; length--) {
      const node: unknown = document.getIn(path.slice(0, length), true);
      if (isNode(node) && node.range) return at(node.range[0]);
    }
    return undefined;
  };
  const [error] = document.errors;
  if (error) throw badPolicy(from, [{ path: [], rule: `is no YAML: ${error.message}` }], () => at(error.pos[0]));
  return rulesOf(
    readable(from, () => document.toJS() as unknown),
    from,
    placeOf,
    known,
  );
}

/** What the library throws and does not list: an alias that names nothing, aliases of aliases beyond its bound, nesting without end. */
function readable<T>(from: string, read: () => T): T {
  try {
    return read();
  } catch (thrown) {
    throw badPolicy(from, [{ path: [], rule: `is no YAML: ${thrown instanceof Error ? thrown.message : String(thrown)}` }], () => undefined);
  }
}

export interface FollowedFile {
  stop(): void;
  /** Why its newest version is not in force. */
  readonly refused: Fault | undefined;
}

/** Tells of each version of the file after `stamp` that fits, or why it does not. */
export function followPolicies(
  path: string,
  stamp: string,
  {
    clock,
    known,
    onRules,
    onRefused,
  }: { readonly clock: Clock; readonly known?: KnownFlaws; onRules(rules: readonly RouteRules[]): void; onRefused(fault: Fault): void },
): FollowedFile {
  let seen = stamp;
  let refused: Fault | undefined;
  let timer: Timer | undefined;
  let stopped = false;
  const look = async (): Promise<void> => {
    const now = await stampOf(path);
    if (now === seen || stopped) return;
    seen = now;
    try {
      const { rules } = await readPolicies(path, known);
      if (stopped) return;
      refused = undefined;
      onRules(rules);
    } catch (thrown) {
      if (stopped) return;
      refused = Fault.is(thrown) ? thrown : badPolicy(path, [{ path: [], rule: `cannot be followed: ${String(thrown)}` }], () => undefined);
      onRefused(refused);
    }
  };
  const again = () => void look().finally(() => (stopped ? undefined : (timer = clock.after(lookEveryMs, again))));
  again();
  return {
    stop() {
      stopped = true;
      timer?.cancel();
    },
    get refused() {
      return refused;
    },
  };
}
