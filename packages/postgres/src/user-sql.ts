/**
 * The user's own SQL: queries, the statements of a commit, interactive transactions, migrations.
 *
 * Whatever writes is a transaction of its own, never part of a batch (FINDINGS F5):
 * begin, lock the user's tables (one such transaction at a time, over all processes) → the statements → in one message: the deferred
 * constraints, the guard, the batch function with this one commit, COMMIT. So the lane is held for that last message only, however long the
 * statements or their author take (FINDINGS F7), and what a transaction has read of the user's tables is still so at its end, as long as they
 * are written through Trestle.
 *
 * The lane's rule holds here too: it commits without waiting for the disk, and nobody hears of it before the flush barrier.
 */
import { createHash } from "node:crypto";
import { deadlineExceeded, Fault, remainingMs, type Clock, type Ids } from "trestle/kernel";
import {
  checkCommit,
  rowsDigest,
  type Commit,
  type CommitId,
  type CommitOutcome,
  type SqlConnection,
  type SqlResult,
  type SqlValue,
  type Statement,
  type Store,
} from "trestle/store";
import { literal } from "./arguments.ts";
import type { FlushBarrier } from "./barrier.ts";
import { encodeBatch, refusedInside, type BatchRow } from "./batch.ts";
import { commitFault, isPassing, unknownOutcome, type Applied } from "./lane.ts";
import { wasRolledBack, type Answer, type Pool, type Session } from "./sessions.ts";
import { checkUserText, deniedFault } from "./statement-text.ts";
import { bindable, userTypes } from "./user-values.ts";

type Rows = readonly Readonly<Record<string, SqlValue>>[];

export interface UserSql extends Pick<Store, "transaction" | "migrate"> {
  rows(statement: Statement): Promise<Rows>;
  /** A commit with statements or expected rows, in a transaction of its own. A lost connection is thrown as it is: nobody knows. */
  commit(commit: Commit, inDoubt: boolean): Promise<CommitOutcome>;
}

export interface UserSqlOptions {
  readonly schema: string;
  /** Sessions with the role's own settings: the user's names and plans are the user's. */
  readonly pool: Pool;
  readonly barrier: FlushBarrier;
  /** For as long a connection is believed in; a statement of the user's ends before, so that it is what fails, and not the connection. */
  readonly answerWithinMs: number;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly nowMs: () => number | null;
  readonly applied: (batch: Applied) => void;
  readonly resolve: Store["resolve"];
}

const defaultTransactionMs = 250;
/** A process that stops inside a transaction of its own loses it after this. */
const leftAloneMs = 10_000;

export function userSql(options: UserSqlOptions): UserSql {
  const { schema, pool, barrier, clock, nowMs } = options;
  const statementMsMax = Math.ceil(options.answerWithinMs * 0.8);

  /** For as long a statement may run: the server ends it when its caller's time is over, and nobody waits for it any more. */
  const statementMsLeft = (): number => {
    const leftMs = remainingMs(clock);
    if (leftMs <= 0) throw deadlineExceeded(0, "statement");
    return Math.ceil(Math.min(statementMsMax, leftMs));
  };

  /** Begins, and has the user's tables when it answers. */
  const begin = (session: Session, aloneMs: number, statementMs: number) =>
    session.script(
      `begin isolation level read committed read write; set local idle_in_transaction_session_timeout = ${Math.ceil(aloneMs)}; set local statement_timeout = 0; select "${schema}".lock_tables_v1(); set local statement_timeout = ${Math.ceil(Math.min(statementMs, statementMsMax))}`,
    );

  /** Runs the statement, and judges its text first. */
  async function run(session: Session, { text, parameters }: Statement): Promise<Answer<Record<string, SqlValue>>> {
    checkUserText(text, schema);
    return session.query<Record<string, SqlValue>>({ text, values: parameters.map(bindable), types: userTypes, extended: true });
  }

  /** The commit and the transaction around it, in one message. Answers what the function answered, also when it refused. */
  async function end(
    session: Session,
    commit: Commit,
    inDoubt: boolean,
  ): Promise<{ readonly row: BatchRow; readonly applied: boolean; readonly outcome: CommitOutcome }> {
    const encoded = encodeBatch([commit], { nowMs: nowMs(), inside: true, inDoubt: () => inDoubt });
    const call = `select * from "${schema}".commit_batch_v1(${encoded.arguments.map(literal).join(", ")})`;
    try {
      const answers = await session.script(`set constraints all immediate; select "${schema}".guard_user_sql_v1(); ${call}; commit`);
      const row = answers[2]?.rows[0] as unknown as BatchRow;
      await barrier.pass({ epoch: row.now_epoch, n: Number(row.head), life: row.life });
      options.applied({ epoch: row.now_epoch, head: Number(row.head), commits: encoded.applied(row) });
      return { row, applied: true, outcome: encoded.outcomes(row)[0] as CommitOutcome };
    } catch (error) {
      if (!wasRolledBack(error) || error.code !== "TR002") throw error;
      const row = refusedInside(error.detail ?? "");
      await session.script("rollback");
      await (encoded.restsOnCommits(row) ? barrier.pass({ epoch: row.now_epoch, n: Number(row.head), life: row.life }) : barrier.all(row.life));
      return { row, applied: false, outcome: encoded.outcomes(row)[0] as CommitOutcome };
    }
  }

  async function commit(commit: Commit, inDoubt: boolean): Promise<CommitOutcome> {
    const decided = await pool.use(async (session) => {
      try {
        await begin(session, leftAloneMs, statementMsLeft());
        const refused = await statements(session, commit);
        if (!refused) return { written: true, outcome: (await end(session, commit, inDoubt)).outcome };
        await session.script("rollback");
        return { written: false, outcome: refused };
      } catch (error) {
        await undo(session);
        const fault = lateFault(error) ?? sqlFault(error, "COMMIT");
        if (Fault.is(fault, "sql.failed") || Fault.is(fault, "sql.denied")) return { written: false, outcome: statementRefused(fault) };
        throw fault ?? error;
      }
    });
    if (decided.written) return decided.outcome;
    // A commit that was applied before may fail at its own rows. While an earlier sending may still be on its way the refusal is written down.
    const outcome = inDoubt ? await options.resolve(commit.id) : await known(commit.id);
    return outcome?.ok ? outcome : decided.outcome;
  }

  /** The server ended a statement because its caller's time was over: what its time-out was set for. */
  function lateFault(error: unknown): Fault | undefined {
    // The server's clock may be a little ahead of ours.
    if (!wasRolledBack(error) || error.code !== "57014" || remainingMs(clock) > 50) return undefined;
    return deadlineExceeded(0, "statement", error);
  }

  async function known(id: CommitId): Promise<CommitOutcome | undefined> {
    const [row] = await pool.query<{ epoch: number; n: string; life: string | null }>({ text: `select * from "${schema}".commit_known_v1($1)`, values: [id] });
    if (!row) return undefined;
    await barrier.pass({ epoch: row.epoch, n: Number(row.n), life: row.life });
    return { ok: true, epoch: row.epoch, n: Number(row.n) };
  }

  /** The rows a commit expects, then its statements. Answers why it is refused. */
  async function statements(session: Session, { expects, writes }: Commit): Promise<CommitOutcome | undefined> {
    const changed: string[] = [];
    let text = "";
    try {
      for (const expectation of expects) {
        if (expectation.kind !== "rows") continue;
        text = expectation.statement.text;
        if (rowsDigest((await run(session, expectation.statement)).rows) !== expectation.digest) changed.push(text);
      }
      if (changed.length > 0) return { ok: false, refused: "conflict", keys: changed };
      for (const write of writes) {
        if (write.kind !== "sql") continue;
        text = write.statement.text;
        await run(session, write.statement);
      }
      return undefined;
    } catch (error) {
      const fault = lateFault(error) ?? sqlFault(error, text);
      if (!fault || Fault.is(fault, "store.overloaded") || Fault.is(fault, "deadline.exceeded")) throw fault ?? error;
      return statementRefused(fault);
    }
  }

  async function rows(statement: Statement): Promise<Rows> {
    return pool.use(async (session) => {
      try {
        await session.script(`begin isolation level read committed read only; set local statement_timeout = ${statementMsLeft()}`);
        const { rows: found } = await run(session, statement);
        const [ended] = await session.script(`select * from "${schema}".end_user_read_v1(); commit`);
        const last = ended?.rows[0] as unknown as { readonly epoch: number; readonly newest: string; readonly life: string | null };
        await barrier.pass({ epoch: last.epoch, n: Number(last.newest), life: last.life });
        return found;
      } catch (error) {
        await undo(session);
        if (wasRolledBack(error) && error.code === "25006")
          throw Fault.create("sql.not-a-query", "read.rows takes a query; this statement writes", "Put writes into a commit.", {
            cause: error,
            details: { text: statement.text },
          });
        throw lateFault(error) ?? sqlFault(error, statement.text) ?? lost(error);
      }
    });
  }

  async function transaction<T>(
    work: (connection: SqlConnection) => Promise<{ readonly result: T; readonly commit?: Commit }>,
    atMostMs = defaultTransactionMs,
  ): Promise<T> {
    if (!(atMostMs > 0))
      throw Fault.create("option.out-of-range", `transaction.withinMs must be above 0, got ${atMostMs}`, "Set transaction.withinMs within the range.");
    const withinMs = Math.min(atMostMs, remainingMs(clock));
    if (withinMs <= 0) throw deadlineExceeded(0, "transaction");
    return pool.use(async (session) => {
      await begin(session, withinMs + 1_000, withinMs).catch(async (error: unknown) => {
        await undo(session);
        throw wasRolledBack(error) && !isPassing(error.code) ? commitFault(error) : lostTransaction(error);
      });
      let ended = false;
      let expire!: (fault: unknown) => void;
      const expired = new Promise<never>((_, refuse) => (expire = refuse));
      const timer = clock.after(withinMs, () => {
        ended = true;
        expire(withinMs < atMostMs ? deadlineExceeded(withinMs, "transaction") : overran(withinMs));
        session.destroy(); // the server rolls back at once, whatever the callback is doing
      });
      let turn: Promise<unknown> = Promise.resolve();
      let kept = false;
      const goesOn = () => {
        if (ended) throw Fault.create("transaction.ended", "this transaction has ended", "Use its connection only inside its callback.");
      };
      const one = async (statement: Statement): Promise<SqlResult> => {
        goesOn();
        checkUserText(statement.text, schema);
        try {
          await session.script(kept ? "release savepoint trestle_one; savepoint trestle_one" : "savepoint trestle_one");
          kept = true;
          goesOn();
          const { rows: found, command, rowCount } = await run(session, statement);
          return { rows: found, changes: /^(INSERT|UPDATE|DELETE|MERGE)$/.test(command) ? (rowCount ?? 0) : 0, lastInsertRowid: undefined };
        } catch (error) {
          if (wasRolledBack(error)) await session.script("rollback to savepoint trestle_one");
          throw sqlFault(error, statement.text) ?? lostTransaction(error);
        }
      };
      const connection: SqlConnection = {
        // One after the other, also when the callback does not wait.
        execute: (statement) => {
          const answer = turn.then(() => one(statement));
          turn = answer.catch(() => undefined);
          return answer;
        },
      };
      try {
        const { result, commit: given } = await Promise.race([work(connection), expired]);
        await Promise.race([turn, expired]);
        ended = true;
        const commit = given ?? { id: options.ids.next(), expects: [], writes: [] };
        checkCommit(commit);
        const refused = await statements(session, commit);
        timer.cancel();
        const outcome = refused ?? (await finish(session, commit));
        if (!outcome.ok)
          throw Fault.create(
            outcome.refused === "conflict" ? "commit.conflict" : "transaction.refused",
            `the commit of this transaction was refused (${outcome.refused}); everything in it was rolled back`,
            "Read again and decide again.",
            { details: { outcome } },
          );
        return result;
      } catch (error) {
        ended = true;
        // No statement begins any more (`goesOn`). One that is under way, of a callback that did not wait for it, ends before the rollback: if it fails, its savepoint is still there.
        await Promise.race([turn, expired]).catch(() => undefined);
        timer.cancel();
        await undo(session);
        throw error;
      }
    });
  }

  /** The end of an interactive transaction. Nobody can run its callback again, so a lost connection is resolved here. */
  async function finish(session: Session, commit: Commit): Promise<CommitOutcome> {
    try {
      const { outcome, applied } = await end(session, commit, false);
      // An id that is known already: what the callback did was undone.
      if (outcome.ok && !applied) throw Fault.create("transaction.refused", "this commit was applied before", "Give each transaction a commit of its own.");
      return outcome;
    } catch (error) {
      if (Fault.is(error)) throw error;
      const fault = sqlFault(error, "COMMIT");
      if (fault) throw fault;
      // Whatever keeps the answer away, COMMIT was sent.
      const outcome = await options.resolve(commit.id).catch((cause: unknown) => {
        throw unknownOutcome(commit.id, cause);
      });
      if (outcome.ok) return outcome;
      throw lostTransaction(error);
    }
  }

  async function migrate(component: string, files: readonly { readonly name: string; readonly text: string }[]): Promise<void> {
    for (const { name, text } of [...files].sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))) {
      const digest = createHash("sha256").update(text).digest("hex");
      await pool.use(async (session) => {
        try {
          checkUserText(text, schema);
          await session.script(
            `begin isolation level read committed read write; set local statement_timeout = 0; select "${schema}".lock_migrations_v1(); savepoint found`,
            { unbounded: true },
          );
          const [found] = (
            await session.query<{ digest: string | null }>({ text: `select "${schema}".find_migration_v1($1, $2) as digest`, values: [component, name] })
          ).rows;
          await session.script("rollback to savepoint found"); // frees what was locked by looking
          if (found?.digest === digest) return void (await session.script("commit"));
          if (found?.digest)
            throw Fault.create(
              "sql.migration-changed",
              `migration ${name} of ${component} was applied before, and has another text now`,
              "Leave applied migrations as they are; put the change into a new file.",
              { details: { component, name } },
            );
          // Whoever waits for a lock on a table makes everybody wait behind it: a migration gives up instead.
          await session.script("set local lock_timeout = '10s'");
          await session.script(text, { unbounded: true }); // an index on a large table takes its time
          await session.script(`set constraints all immediate; select "${schema}".guard_user_sql_v1()`);
          await session.query({ text: `select "${schema}".keep_migration_v1($1, $2, $3, $4)`, values: [nowMs(), component, name, digest] });
          await session.script("commit");
        } catch (error) {
          await undo(session);
          if (Fault.is(error)) throw error;
          if (wasRolledBack(error) && error.code === "TR004") throw deniedFault(`the table ${error.message}`, error);
          throw Fault.create(
            "sql.migration-failed",
            `migration ${name} of ${component} failed: ${(error as Error).message}; nothing of it was applied`,
            "Correct the file and start again.",
            { cause: error, details: { component, name } },
          );
        }
      });
    }
  }

  return { rows, commit, transaction, migrate };
}

function statementRefused({ message }: Fault): CommitOutcome {
  return { ok: false, refused: "statement", message };
}

/** A connection that cannot say "rollback" any more is rolled back by the server. */
async function undo(session: Session): Promise<void> {
  await session.script("rollback").catch(() => session.destroy());
}

/** What PostgreSQL said about the user's statement; `undefined` when it is nothing about the statement. */
function sqlFault(error: unknown, text: string): Fault | undefined {
  if (Fault.is(error)) return error;
  if (!wasRolledBack(error)) return undefined;
  if (isPassing(error.code)) return undefined;
  if (error.code === "TR004") return deniedFault(`the table ${error.message}`, error);
  if (error.code === "42601" && error.message.includes("multiple commands"))
    return Fault.create(
      "sql.several-statements",
      "a statement must be one statement; this text has several",
      "Send the statements one by one; migrations may hold several.",
      { cause: error, details: { text } },
    );
  if (error.code === "55P03")
    return Fault.create(
      "store.overloaded",
      `the tables were held by somebody else for too long: ${error.message}`,
      "Look for a session that holds a lock for long.",
      {
        cause: error,
      },
    );
  return Fault.create("sql.failed", `the statement failed: ${error.message}`, "Correct the statement.", { cause: error, details: { text } });
}

function lost(cause: unknown): Fault {
  return Fault.create("store.unreachable", `PostgreSQL did not answer: ${(cause as Error).message}`, "Read the cause; reading again is safe.", { cause });
}

function lostTransaction(cause: unknown): Fault {
  return Fault.create(
    "transaction.lost",
    `the connection was lost in this transaction; nothing of it was applied: ${(cause as Error).message}`,
    "Run it again.",
    { cause },
  );
}

function overran(withinMs: number): Fault {
  return Fault.create(
    "transaction.overran",
    `the transaction held the user's tables longer than its ${withinMs} ms and was rolled back`,
    "Do slow work before the transaction, or give it a higher limit; all others that write the user's tables wait for it.",
    { details: { withinMs } },
  );
}
