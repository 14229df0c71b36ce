/**
 * SQL as the gate of total order (sql-order.test.ts) sees it: the statements in the sources, as tokens. A parser from outside would have to know both
 * dialects, PL/pgSQL in dollar quotes and the text of templates; what the gate needs is less: where a SELECT begins and ends, and its clauses.
 */
import { partsOf, read } from "./repository.ts";

export interface Token {
  /** Words in lower case; a quoted name without its quotes; a text or number as it stands. */
  readonly text: string;
  readonly kind: "word" | "text" | "number" | "sign";
  readonly line: number;
  /** How many parentheses are open before it. */
  readonly depth: number;
}

export interface Script {
  readonly path: string;
  readonly line: number;
  readonly tokens: readonly Token[];
}

/** What stands for a part of a template that only a run knows. */
export const filledIn = "filled_in";

/** All statements in a file: a whole .sql file, or each string of a TypeScript source that begins as SQL does. */
export function scriptsOf(path: string): Script[] {
  if (path.endsWith(".sql")) return [{ path, line: 1, tokens: tokensOf(read(path)) }];
  return literalsOf(path)
    .filter(({ text }) => /^\s*(select|with|insert|delete|update|create|alter|begin|set|savepoint)\b/i.test(text) && /\b(select|create)\b/i.test(text))
    .map(({ text, line }) => ({ path, line, tokens: tokensOf(text, line) }));
}

export function tokensOf(sql: string, firstLine = 1): Token[] {
  const tokens: Token[] = [];
  let line = firstLine;
  let depth = 0;
  const pattern =
    /(\s+|--[^\n]*|\/\*[\s\S]*?\*\/)|([eExX]?'(?:[^']|'')*')|"((?:[^"]|"")*)"|(\$\w*\$)|([A-Za-z_][\w$]*|[?$:@]\w+)|(\d+(?:\.\d+)?)|(::|<>|<=|>=|\|\||->>|->|#>>|#>|\?\||[^\s\w])/g;
  for (const [all, skipped, text, quoted, dollars, word, number, sign] of sql.matchAll(pattern)) {
    if (sign === ")") depth--;
    const add = (value: string, kind: Token["kind"]) => void tokens.push({ text: value, kind, line, depth });
    if (text !== undefined) add(text, "text");
    else if (quoted !== undefined) add(quoted, "word");
    // A function's body: its statements are looked at like any others, and do not run into what is around them.
    else if (dollars !== undefined) add(";", "sign");
    else if (word !== undefined) add(word.toLowerCase(), "word");
    else if (number !== undefined) add(number, "number");
    else if (sign !== undefined) add(sign, "sign");
    if (sign === "(") depth++;
    if (skipped !== undefined || text !== undefined) line += all.split("\n").length - 1;
  }
  return tokens;
}

/** The strings of a source, with what is filled in replaced: `${table("job")}` by the name in it, a constant of the file by its text, all else by `filled_in`. */
function literalsOf(path: string): { readonly text: string; readonly line: number }[] {
  const { code, uncommented } = partsOf(path);
  const found: { readonly text: string; readonly line: number }[] = [];
  const constants = new Map([...uncommented.matchAll(/^(?:export )?const (\w+) =\s*"([^"\n]*)"/gm)].map(([, name, text]) => [name as string, text as string]));
  const lineOf = (at: number): number => code.slice(0, at).split("\n").length;
  const valueOf = (expression: string): string => {
    const table = /^table\("(\w+)"\)$/.exec(expression);
    return table ? (table[1] as string) : (constants.get(expression) ?? filledIn);
  };
  /** From behind the backquote; answers where it is closed. */
  const template = (from: number): number => {
    let text = "";
    let at = from;
    for (; at < code.length && code[at] !== "`"; at++) {
      if (!code.startsWith("${", at)) {
        text += uncommented[at];
        continue;
      }
      const begins = at + 2;
      let open = 1;
      for (at = begins; at < code.length; at++) {
        if (code[at] === "`") at = template(at + 1);
        else if (code[at] === "{") open++;
        else if (code[at] === "}" && --open === 0) break;
      }
      text += valueOf(uncommented.slice(begins, at).trim());
    }
    found.push({ text, line: lineOf(from) });
    return at;
  };
  for (let at = 0; at < code.length; at++) {
    const char = code[at];
    if (char === "`") at = template(at + 1);
    else if (char === '"' || char === "'") {
      const end = code.indexOf(char, at + 1);
      if (end < 0) break;
      found.push({
        text: uncommented
          .slice(at + 1, end)
          .replaceAll("\\\\", "\\")
          .replaceAll('\\"', '"'),
        line: lineOf(at),
      });
      at = end;
    }
  }
  return found;
}
