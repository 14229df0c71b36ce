/**
 * Sessions of a real PostgreSQL, driven one step at a time and looked at when they are at rest: each has answered, or waits for a lock. The server says who
 * waits (`pg_blocking_pids`); a circle of waits is no rest, for one of them is ended soon.
 */
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { inOrder, lookOf, type Answer, type Look, type RowSeen, type Step } from "trestle/simulation/postgres-model";

export interface WatchedSessions extends AsyncDisposable {
  /** Ends whatever is open, and puts these rows in place of what is there. */
  reset(rows: Readonly<Record<string, number>>): Promise<void>;
  /** Sends the step, and looks when there is rest. */
  step(session: string, step: Step): Promise<Look>;
  /** Sends it, and waits for nothing. */
  send(session: string, step: Step): void;
  waits(session: string): boolean;
  /** It answered with an error, and has not ended its transaction. */
  failed(session: string): boolean;
}

export interface WatchedSessionsOptions {
  readonly url: string;
  /** Another way to the server for one of them. */
  readonly urls?: Readonly<Record<string, string>>;
  readonly names: readonly string[];
  /** A table of their own, made when it is missing. Default `rows`. */
  readonly table?: string;
  /** On a standby: the table is there. */
  readonly readOnly?: boolean;
}

interface Watched {
  readonly client: pg.Client;
  readonly pid: number;
  asking: boolean;
  answer: Answer | undefined;
  failed: boolean;
  /** Called when the server is ready for the next query: an error is told before what it ends is undone. */
  ready: () => void;
}

/** A statement has no answer, and waits for nothing that ends, for so long: something is wrong. */
const restWithinMs = 10_000;

export async function watchedSessions({ url, urls = {}, names, table = "rows", readOnly = false }: WatchedSessionsOptions): Promise<WatchedSessions> {
  const watcher = await connected(url);
  if (!readOnly) await watcher.query(`create table if not exists ${table} (key text primary key, value int not null)`);
  const sessions = new Map<string, Watched>();
  for (const name of names) {
    const client = await connected(urls[name] ?? url);
    const pid = (await client.query<{ pid: number }>("select pg_backend_pid() as pid")).rows[0]?.pid as number;
    const session: Watched = { client, pid, asking: false, answer: undefined, failed: false, ready: () => undefined };
    for (const event of ["drain", "end"] as const) client.on(event, () => session.ready());
    sessions.set(name, session);
  }
  const all = [...sessions.values()];
  let wake: () => void = () => undefined;

  function send(name: string, step: Step): void {
    const session = sessions.get(name) as Watched;
    session.asking = true;
    const ready = new Promise<void>((resolve) => (session.ready = resolve));
    void session.client
      .query<{ key: string; value: number }>(queryOf(step, table))
      .then(
        (result) => (session.answer = answerTo(step, result)),
        (error: unknown) => {
          const { code } = error as { readonly code?: string };
          session.answer = { kind: "error", code: code ?? String(error) };
        },
      )
      .then(() => ready)
      .finally(() => {
        session.asking = false;
        if (session.answer?.kind === "error") session.failed = step.kind !== "commit";
        else if (step.kind === "commit" || step.kind === "rollback") session.failed = false;
        wake();
      });
  }

  async function rest(): Promise<void> {
    const fromMs = performance.now();
    const open = (): readonly Watched[] => all.filter(({ asking }) => asking);
    while (open().length > 0) {
      // Most answers take less than a look would.
      await Promise.race([new Promise<void>((resolve) => (wake = resolve)), sleep(1)]);
      const asking = open();
      if (asking.length === 0) return;
      const pids = asking.map(({ pid }) => pid);
      const { rows } = await watcher.query<{ pid: number; blockers: readonly number[] }>({
        name: "blockers",
        text: "select pid, pg_blocking_pids(pid) as blockers from unnest($1::int[]) as pid",
        values: [pids],
      });
      // What was answered meanwhile may have set others free.
      if (open().length !== asking.length) continue;
      const blockers = new Map(rows.map((row) => [row.pid, row.blockers]));
      if (rows.every((row) => row.blockers.length > 0) && !pids.some((pid) => leadsBack(blockers, pid))) return;
      if (performance.now() - fromMs > restWithinMs) throw new Error(`no rest within ${restWithinMs} ms: ${JSON.stringify(rows)}`);
    }
  }

  const self: WatchedSessions = {
    send,
    waits: (name) => (sessions.get(name) as Watched).asking,
    failed: (name) => (sessions.get(name) as Watched).failed,
    async step(name, step) {
      send(name, step);
      await rest();
      const answers: Record<string, Answer> = {};
      for (const [one, session] of sessions) {
        if (session.answer) answers[one] = session.answer;
        session.answer = undefined;
      }
      return lookOf(
        answers,
        names.filter((one) => self.waits(one)),
      );
    },
    async reset(rows) {
      // Who waits goes on when the others have ended, and then says its rollback, which was sent behind.
      await Promise.all(all.map(({ client }) => client.query("rollback")));
      for (const session of all) Object.assign(session, { asking: false, answer: undefined, failed: false });
      const values = Object.entries(rows).map(([key, value]) => `('${key}', ${value})`);
      await watcher.query(`truncate ${table}; ${values.length === 0 ? "" : `insert into ${table} values ${values.join(", ")}`}`);
    },
    async [Symbol.asyncDispose]() {
      await Promise.all([watcher, ...all.map(({ client }) => client)].map((client) => client.end().catch(() => undefined)));
    },
  };
  return self;
}

async function connected(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  client.on("error", () => undefined); // what was asked hears of it too
  await client.connect();
  return client;
}

function leadsBack(blockers: ReadonlyMap<number, readonly number[]>, pid: number): boolean {
  const visited = new Set<number>();
  const visit = (from: number): boolean =>
    (blockers.get(from) ?? []).some((next) => {
      if (next === pid) return true;
      if (visited.has(next)) return false;
      visited.add(next);
      return visit(next);
    });
  return visit(pid);
}

function queryOf(step: Step, table: string): string | { readonly text: string; readonly values: unknown[] } {
  switch (step.kind) {
    case "begin":
      return `begin isolation level ${step.level}${step.asynchronous ? "; set local synchronous_commit = off" : ""}`;
    case "commit":
    case "rollback":
      return step.kind;
    case "scan":
      return `select key, value from ${table}`;
    case "read":
      return { text: `select key, value from ${table} where key = $1`, values: [step.key] };
    case "lock":
      return { text: `select key, value from ${table} where key = $1 for update`, values: [step.key] };
    case "insert":
      return { text: `insert into ${table} values ($1, $2) returning key, value`, values: [step.key, step.value] };
    case "set":
      return step.onlyIf === undefined
        ? { text: `update ${table} set value = $2 where key = $1 returning key, value`, values: [step.key, step.value] }
        : { text: `update ${table} set value = $2 where key = $1 and value = $3 returning key, value`, values: [step.key, step.value, step.onlyIf] };
    case "add":
      return { text: `update ${table} set value = value + $2 where key = $1 returning key, value`, values: [step.key, step.amount] };
    case "remove":
      return step.onlyIf === undefined
        ? { text: `delete from ${table} where key = $1 returning key, value`, values: [step.key] }
        : { text: `delete from ${table} where key = $1 and value = $2 returning key, value`, values: [step.key, step.onlyIf] };
  }
}

function answerTo(step: Step, result: pg.QueryResult<{ key: string; value: number }>): Answer {
  switch (step.kind) {
    case "begin":
      return { kind: "begun" };
    case "commit":
    case "rollback":
      return { kind: result.command === "COMMIT" ? "committed" : "rolled back" };
    default:
      return { kind: "rows", rows: inOrder(result.rows.map(({ key, value }): RowSeen => [key, value])) };
  }
}
