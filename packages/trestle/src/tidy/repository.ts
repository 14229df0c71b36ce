/**
 * The repository as text, for the gates beside this file. They read sources instead of asking a compiler, because TypeScript 7
 * has no stable API; what they need of the language is small: where comments and strings are, and what is imported.
 * A gate ends with `atLeast`, so that one which stops seeing files fails instead of passing.
 */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, posix } from "node:path";
import { fileURLToPath } from "node:url";

export const root = join(dirname(fileURLToPath(import.meta.url)), "../../../..");

/** Every file of the repository that people write, as sorted paths with `/` below the root. Build output and dot folders are left out. */
export const allFiles: readonly string[] = walk("");

export interface Workspace {
  readonly folder: string;
  readonly manifest: Manifest;
}

/** The parts of a package.json the gates look at. */
export interface Manifest {
  readonly name: string;
  readonly version?: string;
  readonly private?: boolean;
  readonly exports?: Readonly<Record<string, string>>;
  readonly bin?: Readonly<Record<string, string>>;
  readonly scripts?: Readonly<Record<string, string>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

/** The packages, examples and benchmarks. benchmarks/peers is none: what it measures beside is installed when it is asked for. */
export const workspaces: readonly Workspace[] = allFiles
  .filter((path) => /^(packages|examples|benchmarks)\/(?!peers\/)[^/]+\/package\.json$/.test(path))
  .map((path) => ({ folder: dirname(path), manifest: JSON.parse(read(path)) as Manifest }));

export const packages: readonly Workspace[] = workspaces.filter(({ folder }) => folder.startsWith("packages/"));

/** Sources of the packages: everything below a `src`, tests included. */
export const sources: readonly string[] = allFiles.filter((path) => /^packages\/[^/]+\/src\/.*\.ts$/.test(path));

/** Code that exists for tests, measurements or gates only, and is not published. */
export function isTestCode(path: string): boolean {
  const inside = path.replace(/^packages\/[^/]+\//, ""); // packages/testing is published
  return /\.(test|bench|types)\.ts$/.test(path) || /(^|\/)(testing|tidy)(\/|\.ts$)/.test(inside);
}

export function read(path: string): string {
  return readFileSync(join(root, path), "utf8");
}

export function exists(path: string): boolean {
  return existsSync(join(root, path));
}

function walk(folder: string): string[] {
  const left = new Set(["node_modules", "dist", "results"]);
  return readdirSync(join(root, folder), { withFileTypes: true })
    .filter((entry) => !left.has(entry.name) && (!entry.name.startsWith(".") || entry.name === ".ci"))
    .flatMap((entry) => {
      const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
      return entry.isDirectory() ? walk(path) : [path];
    })
    .sort();
}

/** Fails unless the gate looked at enough things to mean anything. Raise `least` as the repository grows; lowering it needs a reason. */
export function atLeast(least: number, seen: number, what: string): void {
  assert.ok(seen >= least, `this gate inspected ${seen} ${what}, fewer than the ${least} it must see: it has gone blind`);
}

/** Fails with the list of what is wrong, one per line. */
export function none(problems: readonly string[], rule: string): void {
  assert.equal(problems.length, 0, `${rule}\n${problems.map((problem) => `  ${problem}`).join("\n")}`);
}

export interface Line {
  readonly number: number;
  readonly text: string;
}

export function lines(text: string): Line[] {
  return text.split("\n").map((line, index) => ({ number: index + 1, text: line }));
}

export interface Parts {
  /** The text with comments, and what is inside strings, replaced by spaces. Lines keep their numbers. */
  readonly code: string;
  /** The text with comments replaced by spaces. */
  readonly uncommented: string;
}

const cache = new Map<string, Parts>();

/** A source file without its comments and strings, so that a word in prose is not taken for a call. */
export function partsOf(path: string): Parts {
  const known = cache.get(path);
  if (known) return known;
  const parts = split(read(path));
  cache.set(path, parts);
  return parts;
}

/**
 * One pass over the text. Outside is `code`; a quote opens a string, a backquote a template (whose `${` goes back to code
 * until its brace closes), `//` and `/*` a comment, and a slash where an expression may begin a regular expression.
 */
export function split(text: string): Parts {
  const code = text.split("");
  const uncommented = text.split("");
  const braces: number[] = []; // for each open template expression, how many braces were open inside it
  let at = 0;
  const blank = (end: number, both: boolean) => {
    for (; at < end && at < text.length; at++) {
      if (text[at] === "\n") continue;
      code[at] = " ";
      if (both) uncommented[at] = " ";
    }
  };
  const template = () => {
    while (at < text.length) {
      if (text[at] === "\\") blank(at + 2, false);
      else if (text[at] === "`") return void at++;
      else if (text.startsWith("${", at)) {
        braces.push(0);
        at += 2;
        return;
      } else blank(at + 1, false);
    }
  };
  while (at < text.length) {
    const char = text[at] as string;
    const open = braces.length - 1;
    if (text.startsWith("//", at)) blank(endOr(text.indexOf("\n", at), text), true);
    else if (text.startsWith("/*", at)) blank(endOr(text.indexOf("*/", at + 2), text, 2), true);
    else if (char === '"' || char === "'") {
      at++;
      while (at < text.length && text[at] !== char && text[at] !== "\n") blank(at + (text[at] === "\\" ? 2 : 1), false);
      at++;
    } else if (char === "`") {
      at++;
      template();
    } else if (char === "/" && startsExpression(code.slice(Math.max(0, at - 40), at).join(""))) {
      at++;
      let inClass = false;
      while (at < text.length && text[at] !== "\n" && (inClass || text[at] !== "/")) {
        if (text[at] === "[") inClass = true;
        else if (text[at] === "]") inClass = false;
        blank(at + (text[at] === "\\" ? 2 : 1), false);
      }
      at++;
    } else {
      if (open >= 0 && char === "{") braces[open] = (braces[open] as number) + 1;
      if (open >= 0 && char === "}") {
        if (braces[open] === 0) {
          braces.pop();
          at++;
          template();
          continue;
        }
        braces[open] = (braces[open] as number) - 1;
      }
      at++;
    }
  }
  return { code: code.join(""), uncommented: uncommented.join("") };
}

function endOr(found: number, text: string, extra = 0): number {
  return found === -1 ? text.length : found + extra;
}

function startsExpression(before: string): boolean {
  const trimmed = before.trimEnd();
  return trimmed === "" || /[(,=:[!&|?{};+*%~^<>-]$/.test(trimmed) || /\b(return|typeof|case|in|of|void|await|yield)$/.test(trimmed);
}

export interface Import {
  readonly specifier: string;
  /** Gone when the types are stripped: it costs nothing and loads nothing at run time. */
  readonly typeOnly: boolean;
  /** The file it leads to, below the root, when it is relative. */
  readonly file: string | undefined;
}

/** What a file imports or re-exports: statically, by `import()` with a literal, or by `new URL("./x.ts", import.meta.url)`. */
export function importsOf(path: string): Import[] {
  const { code, uncommented } = partsOf(path);
  const found: Import[] = [];
  const add = (match: RegExpExecArray, specifier: string, typeOnly: boolean) => {
    const keyword = match.index + match[0].search(/\S/);
    if (code[keyword] === " ") return; // an example inside a string
    found.push({ specifier, typeOnly, file: specifier.startsWith(".") ? posix.join(dirname(path), specifier) : undefined });
  };
  for (const match of uncommented.matchAll(
    /^\s*(import|export)\s+(type\s+)?(?:[\w$]+\s*,?\s*)?(?:\*(?:\s+as\s+[\w$]+)?|\{[^}]*\})?\s*(?:from\s*)?"([^"\n]+)"/gm,
  ))
    add(match, match[3] as string, match[2] !== undefined);
  for (const match of uncommented.matchAll(/\bimport\(\s*"([^"\n]+)"\s*\)/g)) add(match, match[1] as string, false);
  for (const match of uncommented.matchAll(/\bnew URL\(([^()]*(?:\([^()]*\)[^()]*)*), import\.meta\.url\)/g)) {
    for (const literal of (match[1] as string).matchAll(/"(\.{1,2}\/[^"\n]+)"/g)) add(match, literal[1] as string, false);
  }
  return found;
}

/** The folder of the core package a file belongs to: `kernel` for packages/trestle/src/kernel/clock.ts, `` for src/index.ts. */
export function coreFolder(path: string): string | undefined {
  const match = /^packages\/trestle\/src\/(?:([^/]+)\/)?/.exec(path);
  return match ? (match[1] ?? "") : undefined;
}

/** When a file was changed last, milliseconds since 1970. */
export function changedAtMs(path: string): number {
  return statSync(join(root, path)).mtimeMs;
}
