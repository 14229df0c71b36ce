/** The user's own tables: a statement and everything else that its handler wrote are there together, or neither is. */
import { z } from "zod";
import { app, post, records, refuse, service, sql } from "../../index.ts";
import { scenario, sometimes } from "../index.ts";

/** Its one table is in `tables/001-lines.sql`. */
const tables = sql("tables", { migrations: import.meta.resolve("./tables") });
const totals = records("totals", { key: z.string(), value: z.int() });
const Sum = z.object({ cents: z.number() });

const books = service(
  "books",
  { uses: { tables, totals } },
  {
    enter: post(
      "/lines",
      { body: z.object({ account: z.string(), cents: z.int() }), idempotent: true, refuses: { "too-little": 409 } },
      async ({ body: { account, cents } }, { tables, totals }, { newId }) => {
        const [sum] = await tables.expect(Sum)`select coalesce(sum(cents), 0) as cents from line where account = ${account}`;
        tables.run`insert into line values (${newId()}, ${account}, ${cents})`;
        totals.add("all", cents);
        return (sum?.cents ?? 0) + cents < 0 ? refuse("too-little") : {};
      },
    ),
  },
);

export const keepingBooks = scenario(app("books", [books]), {
  uses: { books, tables, totals },
  for: "10s",
  clients: {
    count: 3,
    times: 2,
    each: async ({ books }, chance) => {
      const account = chance.pick(["ada", "ben"]);
      // Two at once, which together may take more than there is.
      const answers = await Promise.all([20, -chance.integer(10, 30), -chance.integer(10, 30)].map((cents) => books.enter({ body: { account, cents } })));
      for (const answer of answers) {
        sometimes("a line is entered", answer.ok);
        sometimes("a line is refused", !answer.ok);
      }
    },
  },
  always: {
    "the total is that of the lines": async ({ tables, totals }) => {
      const [sum] = await (await tables.rows(Sum))`select coalesce(sum(cents), 0) as cents from line`;
      return sum?.cents === ((await totals.get("all")) ?? 0);
    },
    "no account owes": async ({ tables }) =>
      (await (await tables.rows(Sum))`select sum(cents) as cents from line group by account`).every(({ cents }) => cents >= 0),
  },
});
