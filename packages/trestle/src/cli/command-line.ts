/**
 * What the command line may say, as data: parsing, help and suggestions come from one table. Parsing is `node:util`'s; what it refuses is said
 * again naming the option, the rule and the value.
 */
import { parseArgs } from "node:util";
import { Fault } from "../kernel/index.ts";

export interface OptionSpec {
  readonly type: "string" | "boolean";
  readonly multiple?: boolean;
  /** In help: `--port <number>`. */
  readonly value?: string;
  readonly help: string;
}
export interface CommandSpec {
  /** `queue ls`. */
  readonly name: string;
  readonly summary: string;
  /** Positional arguments, as help shows them: `<app.ts>`, `[queue]`. */
  readonly arguments: readonly string[];
  readonly options: Readonly<Record<string, OptionSpec>>;
  readonly examples: readonly string[];
}
export interface Given {
  readonly positionals: readonly string[];
  readonly values: Readonly<Record<string, string | boolean | readonly (string | boolean)[] | undefined>>;
}

const helpOption: OptionSpec = { type: "boolean", help: "say what this command does" };

/** The command these words begin with, and what is left. Faults: `cli.unknown-command`. */
export function findCommand(commands: readonly CommandSpec[], words: readonly string[]): { readonly command: CommandSpec; readonly rest: readonly string[] } {
  for (const length of [2, 1]) {
    const name = words.slice(0, length).join(" ");
    const command = words.length >= length ? commands.find((one) => one.name === name) : undefined;
    if (command) return { command, rest: words.slice(length) };
  }
  const first = words[0] as string;
  const within = commands.filter(({ name }) => name.startsWith(`${first} `)).map(({ name }) => name.slice(first.length + 1));
  if (within.length > 0) {
    const second = words.slice(1).find((word) => !word.startsWith("-"));
    const told =
      second === undefined ? `${first} needs one of: ${within.join(", ")}` : `${first} has no command ${JSON.stringify(second)}; it has ${within.join(", ")}`;
    throw Fault.create(
      "cli.unknown-command",
      told,
      second === undefined ? `Write \`trestle ${first} ${within[0]}\`.` : suggestion(second, within, `trestle ${first} `),
    );
  }
  const names = [...new Set(commands.map(({ name }) => name.split(" ")[0] as string))];
  throw Fault.create(
    "cli.unknown-command",
    `there is no command ${JSON.stringify(first)}; there are ${names.join(", ")}`,
    suggestion(first, names, "trestle "),
  );
}

/** Faults: `cli.unknown-option`, `cli.bad-option`, `cli.missing-argument`, `cli.too-many-arguments`. */
export function parseCommand(command: CommandSpec, words: readonly string[]): Given {
  const options: Record<string, OptionSpec> = { ...command.options, help: helpOption };
  const known = Object.keys(options);
  const seen = words.slice(0, words.includes("--") ? words.indexOf("--") : words.length);
  for (const word of seen) {
    const name = /^--([^=]+)/.exec(word)?.[1] ?? (/^-[^-]/.test(word) && word !== "-h" ? word : undefined);
    if (name === undefined || known.includes(name)) continue;
    throw Fault.create(
      "cli.unknown-option",
      `trestle ${command.name} has no option ${word.replace(/=.*$/s, "")}; it has ${known.map((one) => `--${one}`).join(", ")}`,
      suggestion(name, known, "--"),
    );
  }
  let given: Given;
  try {
    given = parseArgs({
      args: [...words],
      allowPositionals: true,
      strict: true,
      options: Object.fromEntries(
        Object.entries(options).map(([name, { type, multiple }]) => [
          name,
          { type, ...(multiple ? { multiple } : {}), ...(name === "help" ? { short: "h" } : {}) },
        ]),
      ),
    }) as Given;
  } catch (cause) {
    throw Fault.create("cli.bad-option", `trestle ${command.name}: ${(cause as Error).message.split(". ")[0]}`, `Run \`trestle ${command.name} --help\`.`, {
      cause,
    });
  }
  if (given.values["help"]) return given;
  const needed = command.arguments.filter((argument) => argument.startsWith("<"));
  if (given.positionals.length < needed.length)
    throw Fault.create(
      "cli.missing-argument",
      `trestle ${command.name} needs ${needed[given.positionals.length]}`,
      `Write \`trestle ${command.name} ${command.arguments.join(" ")}\`.`,
    );
  if (given.positionals.length > command.arguments.length) {
    throw Fault.create(
      "cli.too-many-arguments",
      `trestle ${command.name} takes ${command.arguments.join(" ") || "no arguments"}, got ${given.positionals.map((word) => JSON.stringify(word)).join(" ")}`,
      `Run \`trestle ${command.name} --help\`.`,
    );
  }
  return given;
}

export function helpOf(command: CommandSpec): string {
  const options = Object.entries({ ...command.options, help: helpOption }).map(
    ([name, { value, help }]) => [`--${name}${value === undefined ? "" : ` <${value}>`}`, help] as const,
  );
  const width = Math.max(...options.map(([left]) => left.length));
  return [
    `trestle ${[command.name, ...command.arguments].join(" ")} [options]`,
    "",
    command.summary,
    "",
    ...options.map(([left, help]) => `  ${left.padEnd(width)}  ${help}`),
    ...(command.examples.length === 0 ? [] : ["", ...command.examples.map((example) => `  ${example}`)]),
    "",
  ].join("\n");
}

export function overview(commands: readonly CommandSpec[]): string {
  const rows = commands.map((command) => [[command.name, ...command.arguments].join(" "), command.summary] as const);
  const width = Math.max(...rows.map(([left]) => left.length));
  return [
    "trestle <command> [options]",
    "",
    ...rows.map(([left, summary]) => `  ${left.padEnd(width)}  ${summary}`),
    "",
    "  --help     what a command does: trestle queue ls --help",
    "  --version  which version this is",
    "",
    "Data goes to stdout, progress to stderr; --json gives data that programs can read.",
    "Exit codes: 0 done, 1 found a problem, 2 wrong command line, 3 this machine, 4 store or node not reachable, 130 Ctrl-C.",
    "",
  ].join("\n");
}

/** A whole number within a range. Faults: `cli.bad-option`. */
export function numberOption(given: Given, option: string, range: { readonly least: number; readonly most: number }): number | undefined {
  const text = given.values[option];
  if (text === undefined) return undefined;
  const value = typeof text === "string" && /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (value >= range.least && value <= range.most) return value;
  throw Fault.create(
    "cli.bad-option",
    `--${option} must be a whole number from ${range.least} to ${range.most}, got ${JSON.stringify(text)}`,
    `Write --${option} ${range.least}, for example.`,
  );
}

export function textOption(given: Given, option: string): string | undefined {
  const value = given.values[option];
  if (value === undefined || typeof value === "string") {
    if (value === "") throw Fault.create("cli.bad-option", `--${option} must not be empty`, `Leave --${option} out, or give it a value.`);
    return value;
  }
  return undefined;
}

function suggestion(word: string, among: readonly string[], before: string): string {
  const near = among.map((one) => ({ one, away: distance(word.toLowerCase(), one) })).sort((a, b) => a.away - b.away)[0];
  return near && near.away <= Math.max(2, Math.floor(near.one.length / 3)) ? `Did you mean \`${before}${near.one}\`?` : "Run `trestle --help`.";
}

/** Edits from one word to the other; two letters that changed places are one (Damerau, optimal string alignment). */
function distance(a: string, b: string): number {
  const rows = Array.from({ length: a.length + 1 }, (_, i) => Array.from({ length: b.length + 1 }, (_unused, j) => (i === 0 ? j : j === 0 ? i : 0)));
  const at = (i: number, j: number) => rows[i]?.[j] ?? Infinity;
  for (let i = 1; i <= a.length; i++) {
    for (let j = 1; j <= b.length; j++) {
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? at(i - 2, j - 2) + 1 : Infinity;
      (rows[i] as number[])[j] = Math.min(at(i - 1, j) + 1, at(i, j - 1) + 1, at(i - 1, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1), swapped);
    }
  }
  return at(a.length, b.length);
}
