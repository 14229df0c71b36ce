/**
 * What a text of SQL says before it runs: enough of PostgreSQL's lexical rules (comments that nest, quoted names, strings with and without
 * backslashes, dollar quotes) to tell its statements, their first words and the names in them. It decides nothing that PostgreSQL would decide
 * otherwise: what slips through is found among the locks afterwards (sql/user-sql.sql).
 */
import { Fault } from "trestle/kernel";

/** Transaction control, the session, other sessions, the server's files, and what only SQLite has. */
const deniedWords = new Set(
  "begin start commit end rollback abort savepoint release prepare execute deallocate discard set reset listen unlisten notify copy load vacuum checkpoint attach detach pragma".split(
    " ",
  ),
);
const temporary = new Set(["temp", "temporary"]);

/** Faults with `sql.denied` when a statement of the text may not be the user's. */
export function checkUserText(text: string, schema: string): void {
  for (const words of statementsOf(text)) {
    const [first = ""] = words;
    const denied = deniedWords.has(first)
      ? first.toUpperCase()
      : first === "create" && words.slice(1, 4).some((word) => temporary.has(word))
        ? "a temporary table"
        : words.find((word, at) => /^trestle_/i.test(word) || (word === schema && words[at + 1] === "."));
    if (denied !== undefined) throw deniedFault(denied.startsWith("trestle_") || denied === schema ? `the name ${denied}` : denied);
  }
}

export function deniedFault(what: string, cause?: unknown): Fault {
  return Fault.create(
    "sql.denied",
    `a statement of the user's may not use ${what}`,
    "Leave transactions, settings and the session to Trestle; read its state through its own handles.",
    { cause },
  );
}

/** Each statement as its words: names in lower case unless quoted, and the dots between them. Strings and other signs are left out. */
function statementsOf(text: string): readonly (readonly string[])[] {
  const statements: string[][] = [[]];
  const token =
    /--[^\n]*|(\/\*)|\$([A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$|[eE]'(?:[^'\\]|\\[\s\S]|'')*'|'(?:[^']|'')*'|"((?:[^"]|"")*)"|([A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*)|([.;])/g;
  for (let found = token.exec(text); found; found = token.exec(text)) {
    const [all, comment, tag, quoted, word, sign] = found;
    if (comment !== undefined) token.lastIndex = endOfComment(text, found.index);
    else if (all.startsWith("$")) {
      const end = text.indexOf(all, token.lastIndex);
      token.lastIndex = end < 0 ? text.length : end + all.length;
      void tag;
    } else if (sign === ";") statements.push([]);
    else {
      const said = quoted?.replaceAll('""', '"') ?? word?.toLowerCase() ?? sign;
      if (said !== undefined) statements.at(-1)?.push(said);
    }
  }
  return statements.filter((words) => words.length > 0);
}

/** Comments nest. */
function endOfComment(text: string, from: number): number {
  const edge = /\/\*|\*\//g;
  edge.lastIndex = from;
  for (let depth = 0, found = edge.exec(text); found; found = edge.exec(text)) {
    depth += found[0] === "/*" ? 1 : -1;
    if (depth === 0) return edge.lastIndex;
  }
  return text.length;
}
