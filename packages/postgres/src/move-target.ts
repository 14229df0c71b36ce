/**
 * A store on PostgreSQL as what is moved to (trestle/store, `MoveTarget`). While it receives, its epoch is 0: whoever opens it, and every batch and
 * claim, is refused with `store.receiving`. All that a load does is one transaction, with the progress it makes.
 *
 * Places keep their numbers. Those that this engine gives itself begin at commit numbers shifted by 20 bits, above any that came from elsewhere.
 * Over 400 lines because each part is put, paged and looked up by statements that must agree on its columns.
 */
import { Fault, systemClock, systemRandom, uuidv7Ids, type Clock, type Random } from "trestle/kernel";
import type { IndexEntry, Moved, MovedJobState, MovePage, MovePart, MoveProgress, MoveRow, MoveTarget } from "trestle/store";
import { makeSchema } from "./schema.ts";
import { newTables } from "./new-tables.ts";
import { openPool, type Session } from "./sessions.ts";
import { placeOf } from "./url.ts";

const states: readonly MovedJobState[] = ["ready", "running", "retrying", "parked", "undetermined", "behind", "scheduled", "dead", "done"];
type Of<P extends MovePart> = MoveRow & { readonly part: P };
type Column = readonly unknown[];
interface Found {
  readonly [column: string]: unknown;
}

/** Makes the schema when it is not there. Faults: those of opening a store; `move.target-in-use` from `progress` and `begin`. */
export async function postgresMoveTarget(options: {
  readonly url: string;
  readonly schema?: string;
  readonly clock?: Clock;
  readonly random?: Random;
}): Promise<MoveTarget> {
  const { url, schema } = placeOf(options.url, options.schema);
  const [clock, random] = [options.clock ?? systemClock, options.random ?? systemRandom];
  const me = uuidv7Ids(clock, random).next();
  const pool = openPool({ url, name: "trestle move", size: 1, answerWithinMs: 30_000, clock, random });
  try {
    await makeSchema(pool, schema);
  } catch (error) {
    await pool.close();
    throw error;
  }
  const table = (name: string) => `"${schema}".${name}`;

  const rows = async (session: Session, text: string, ...values: unknown[]) => (await session.query<Found>({ text, values })).rows;
  const ask = (text: string, ...values: unknown[]) => pool.use((session) => rows(session, text, ...values));

  /** In a transaction that holds the lane, so that nobody's batch is between. */
  async function alone<T>(work: (session: Session) => Promise<T>): Promise<T> {
    return pool.use(async (session) => {
      await session.script(`begin isolation level read committed; set local search_path = "${schema}", pg_temp; select lock_lane()`);
      try {
        const result = await work(session);
        await session.script("commit");
        return result;
      } catch (error) {
        await session.script("rollback").catch(() => undefined);
        throw error;
      }
    });
  }

  async function progress(): Promise<MoveProgress | undefined> {
    const [known] = await ask(`select progress from ${table("moving")}`);
    if (known) return JSON.parse(known["progress"] as string) as MoveProgress;
    await refuseUsed((text) => ask(text));
    return undefined;
  }

  /** Who has taken over later, or opened the store, has the say: this one may have slept. */
  async function insist(session: Session): Promise<void> {
    const [row] = await rows(session, "select mover, progress from moving");
    if (row && (JSON.parse(row["progress"] as string) as MoveProgress).opened)
      throw Fault.create("move.already-moved", "the new store is in use already", "Nothing is left to do here; the app goes on there.");
    if (row && row["mover"] !== me)
      throw Fault.create("move.taken-over", "this move was started again elsewhere, or given up; that one goes on", "Let it, and look there how it ends.");
  }

  async function refuseUsed(look: (text: string) => Promise<readonly Found[]>): Promise<void> {
    const [used] = await look(
      `select 1 where exists (select from ${table("commit")}) or exists (select from ${table("event")}) or exists (select from ${table("record")}) or exists (select from ${table("job")}) or exists (select from ${table("token")})`,
    );
    if (used)
      throw Fault.create(
        "move.target-in-use",
        `schema ${schema} holds a store that is in use, and is not of this move`,
        "Name another schema (`?schema=`), or an empty database.",
        { details: { schema } },
      );
  }

  const keep = (session: Session, next: MoveProgress) =>
    rows(
      session,
      `insert into moving (progress, mover) values ($1, $2) on conflict (one) do update set progress = excluded.progress, mover = excluded.mover`,
      JSON.stringify(next),
      me,
    );

  async function load(session: Session, moved: readonly Moved[]): Promise<void> {
    const of = <P extends MovePart>(part: P): Of<P>[] => moved.filter((row): row is Of<P> => row.part === part && !("gone" in row) && !("trimmedTo" in row));
    const gone = (part: MovePart) => moved.filter((row) => row.part === part && "gone" in row).map((row) => (row as { id: string | number }).id);
    const insert = async (text: string, ...columns: Column[]) => void (columns[0]?.length && (await rows(session, text, ...columns)));

    const commits = of("commit");
    await insert(
      `insert into commit (id, epoch, n, at_ms, keys) select x.id, x.epoch, x.n, x.at, array(select json_array_elements_text(x.keys))
        from unnest($1::uuid[], $2::int[], $3::bigint[], $4::bigint[], $5::json[]) x (id, epoch, n, at, keys) on conflict do nothing`,
      commits.map(({ commit }) => commit ?? null),
      commits.map(({ epoch }) => epoch),
      commits.map(({ n }) => n ?? null),
      commits.map(({ atMs }) => atMs),
      commits.map(({ keys }) => JSON.stringify(keys)),
    );
    const events = of("event");
    await insert(
      `insert into event (position, stream, version, n, id, type, data, meta, at_ms)
        select * from unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::uuid[], $6::text[], $7::bytea[], $8::bytea[], $9::bigint[]) on conflict do nothing`,
      events.map(({ id }) => id),
      events.map(({ stream }) => stream),
      events.map(({ version }) => version),
      events.map(({ n }) => n),
      events.map(({ event }) => event),
      events.map(({ type }) => type),
      events.map(({ data }) => bytes(data)),
      events.map(({ meta }) => (meta ? bytes(meta) : null)),
      events.map(({ atMs }) => atMs),
    );
    for (const row of moved) {
      if (!("trimmedTo" in row)) continue;
      await rows(session, "select set_config('trestle.maintenance', 'on', true)");
      await rows(session, "delete from event where stream = $1 and version <= $2", row.stream, row.trimmedTo);
      await rows(session, "select set_config('trestle.maintenance', '', true)");
    }
    const streams = of("stream");
    await insert("delete from stream_head h using unnest($1::text[]) x (stream) where h.stream = x.stream", [
      ...streams.map(({ id }) => id),
      ...gone("stream"),
    ]);
    await insert(
      "insert into stream_head (stream, version, n) select * from unnest($1::text[], $2::bigint[], $3::bigint[])",
      streams.map(({ id }) => id),
      streams.map(({ version }) => version),
      streams.map(({ n }) => n),
    );

    const records = of("record");
    const keys = [...records.map(({ id }) => id), ...gone("record")];
    await insert(`delete from entry e using unnest($1::text[]) x (key) where e.home = home_of(x.key) and e.key = x.key`, keys);
    await insert("delete from record r using unnest($1::text[]) x (key) where r.key = x.key", keys);
    await insert(
      `insert into record (key, version, home, created, expires_at_ms, entries, value)
        select x.key, x.version, home_of(x.key), x.created, x.expires, x.entries, x.value
        from unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::bytea[]) x (key, version, created, expires, entries, value)`,
      records.map(({ id }) => id),
      records.map(({ version }) => version),
      records.map(({ created }) => created),
      records.map(({ expiresAtMs }) => expiresAtMs ?? null),
      records.map(({ index }) => (index.length > 0 ? JSON.stringify(index.map(({ field, value }) => [field, value])) : null)),
      records.map(({ value }) => bytes(value)),
    );
    const indexed = records.flatMap(({ id, created, index }) => index.map(({ field, value }) => ({ id, created, field, value: JSON.stringify(value) })));
    await insert(
      `insert into entry (home, field, value, key, created) select distinct home_of(x.key), x.field, x.value, x.key, x.created
        from unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) x (field, value, key, created)`,
      indexed.map(({ field }) => field),
      indexed.map(({ value }) => value),
      indexed.map(({ id }) => id),
      indexed.map(({ created }) => created),
    );

    const tokens = of("token");
    await insert("delete from token t using unnest($1::text[]) x (key) where t.key = x.key", [...tokens.map(({ id }) => id), ...gone("token")]);
    await insert(
      "insert into token (key, value, version, keep_until_ms) select * from unnest($1::text[], $2::bytea[], $3::bigint[], $4::bigint[])",
      tokens.map(({ id }) => id),
      tokens.map(({ value }) => bytes(value)),
      tokens.map(({ version }) => version),
      tokens.map(({ keepUntilMs }) => keepUntilMs),
    );

    const jobs = of("job");
    await insert("delete from job j using unnest($1::uuid[]) x (id) where j.id = x.id", [...jobs.map(({ id }) => id), ...gone("job")]);
    // The head of a key keeps its place among other lines, and is the first of its own.
    await insert(
      `insert into job (id, queue, state, priority, seq, place, rank, line, due_at_ms, sent_at_ms, attempt, claims, cancelled, key, unique_key, share, until_ms, epoch, n, lease_until_ms, holder, error, payload)
        select x.id, x.queue, x.state, x.priority, x.seq, x.place, x.place, case when x.state <= 5 then 0 else x.place end, x.due, x.sent, x.attempt,
          case when x.n is null then 0 else greatest(1, x.attempt) end, x.cancelled, x.key, x.uniq, x.share, x.until, x.epoch, x.n, x.lease, x.holder, x.error, x.payload
        from unnest($1::uuid[], $2::text[], $3::smallint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::int[], $10::bool[], $11::text[], $12::text[], $13::text[],
          $14::bigint[], $15::int[], $16::bigint[], $17::bigint[], $18::text[], $19::text[], $20::bytea[])
          x (id, queue, state, priority, seq, place, due, sent, attempt, cancelled, key, uniq, share, until, epoch, n, lease, holder, error, payload)`,
      jobs.map(({ id }) => id),
      jobs.map(({ queue }) => queue),
      jobs.map(({ state }) => states.indexOf(state) + 1),
      jobs.map(({ priority }) => priority),
      jobs.map(({ seq }) => seq),
      jobs.map(({ place }) => place),
      jobs.map(({ dueAtMs }) => dueAtMs),
      jobs.map(({ sentAtMs }) => sentAtMs),
      jobs.map(({ attempt }) => attempt),
      jobs.map(({ cancelled }) => cancelled),
      jobs.map(({ key }) => key ?? null),
      jobs.map(({ unique }) => unique ?? null),
      jobs.map(({ group }) => (group === undefined ? "" : `.${group}`)),
      jobs.map(({ untilMs }) => untilMs ?? null),
      jobs.map(({ epoch }) => epoch ?? null),
      jobs.map(({ n }) => n ?? null),
      jobs.map(({ leaseUntilMs }) => leaseUntilMs ?? null),
      jobs.map(({ holder }) => holder ?? null),
      jobs.map(({ error }) => error ?? null),
      jobs.map(({ payload }) => bytes(payload)),
    );

    const queues = of("queue");
    const named = [...queues.map(({ id }) => id), ...gone("queue")];
    await insert("delete from job_paused p using unnest($1::text[]) x (queue) where p.queue = x.queue", named);
    await insert("delete from job_mark m using unnest($1::text[]) x (queue) where m.kind = 6 and m.queue = x.queue", named);
    await insert(
      "insert into job_paused (queue) select * from unnest($1::text[])",
      queues.filter(({ paused }) => paused).map(({ id }) => id),
    );
    for (const { id, rates } of queues)
      for (const [scope, nextMs] of rates) await rows(session, "select move_mark(6, $1, $2, 0, 0, null, $3)", id, scope, nextMs);
  }

  // ---- looking ----------------------------------------------------------------------------------------------------------

  const selects: { readonly [P in MovePart]: string } = {
    commit: `select case when n is null then 'r' || id else 'n' || lpad(n::text, 16, '0') end as row, n, id, epoch, at_ms, to_json(keys)::text as keys from ${table("commit")} t`,
    event: `select position, stream, version, n, id, type, data, meta, at_ms from ${table("event")} t`,
    stream: `select stream, version, n from ${table("stream_head")} t`,
    record: `select key, value, version, created, expires_at_ms, entries from ${table("record")} t`,
    token: `select key, value, version, keep_until_ms from ${table("token")} t`,
    job: `select id, seq, queue, state, priority, place, due_at_ms, sent_at_ms, attempt, cancelled, key, unique_key, share, until_ms, epoch, n, lease_until_ms, holder, error, payload from ${table("job")} t`,
    queue: `select t.queue, (select true from ${table("job_paused")} p where p.queue = t.queue) as paused,
      coalesce((select json_agg(json_build_array(r.share, r.at_ms) order by r.share) from (select distinct on (m.share) m.share, m.at_ms from ${table("job_mark")} m where m.kind = 6 and m.queue = t.queue order by m.share, m.turn desc) r)::text, '[]') as rates
      from (select queue from ${table("job_paused")} union select queue from ${table("job_mark")} where kind = 6) t`,
  };
  const rowOf: { readonly [P in MovePart]: (row: Found) => MoveRow } = {
    commit: (row) => ({
      part: "commit",
      id: row["row"] as string,
      ...given("n", row["n"], Number),
      ...given("commit", row["id"], String),
      epoch: row["epoch"] as number,
      atMs: Number(row["at_ms"]),
      keys: JSON.parse(row["keys"] as string) as string[],
    }),
    event: (row) => ({
      part: "event",
      id: Number(row["position"]),
      stream: row["stream"] as string,
      version: Number(row["version"]),
      n: Number(row["n"]),
      event: row["id"] as string,
      type: row["type"] as string,
      data: row["data"] as Uint8Array,
      ...given("meta", row["meta"], (value) => value as Uint8Array),
      atMs: Number(row["at_ms"]),
    }),
    stream: (row) => ({ part: "stream", id: row["stream"] as string, version: Number(row["version"]), n: Number(row["n"]) }),
    record: (row) => ({
      part: "record",
      id: row["key"] as string,
      value: row["value"] as Uint8Array,
      version: Number(row["version"]),
      created: Number(row["created"]),
      ...given("expiresAtMs", row["expires_at_ms"], Number),
      index: (JSON.parse((row["entries"] as string | null) ?? "[]") as [string, string | number][]).map(([field, value]): IndexEntry => ({ field, value })),
    }),
    token: (row) => ({
      part: "token",
      id: row["key"] as string,
      value: row["value"] as Uint8Array,
      version: Number(row["version"]),
      keepUntilMs: Number(row["keep_until_ms"]),
    }),
    job: (row) => ({
      part: "job",
      id: row["id"] as string,
      seq: Number(row["seq"]),
      queue: row["queue"] as string,
      state: states[(row["state"] as number) - 1] as MovedJobState,
      priority: Number(row["priority"]),
      place: Number(row["place"]),
      dueAtMs: Number(row["due_at_ms"]),
      sentAtMs: Number(row["sent_at_ms"]),
      attempt: row["attempt"] as number,
      ...given("key", row["key"], String),
      ...given("unique", row["unique_key"], String),
      ...(row["share"] === "" ? {} : { group: (row["share"] as string).slice(1) }),
      cancelled: row["cancelled"] as boolean,
      ...given("epoch", row["epoch"], Number),
      ...given("n", row["n"], Number),
      ...given("leaseUntilMs", row["lease_until_ms"], Number),
      ...given("holder", row["holder"], String),
      ...given("error", row["error"], String),
      ...given("untilMs", row["until_ms"], Number),
      payload: row["payload"] as Uint8Array,
    }),
    queue: (row) => ({
      part: "queue",
      id: row["queue"] as string,
      paused: row["paused"] === true,
      rates: JSON.parse(row["rates"] as string) as [string, number][],
    }),
  };

  async function page(part: MovePart, after: string | number | undefined, limit: number): Promise<MovePage> {
    const found =
      part === "commit"
        ? await commitPage(after as string | undefined, limit)
        : await ask(`${selects[part]} where ${idColumn[part]} > $1 order by ${idColumn[part]} limit $2`, after ?? lowest[part], limit);
    const read = found.map(rowOf[part]);
    return { rows: read, next: read.length < limit ? undefined : read.at(-1)?.id };
  }
  /** Numbered commits first, then ids that were resolved. */
  async function commitPage(after: string | undefined, limit: number): Promise<readonly Found[]> {
    const numbered =
      after === undefined || after.startsWith("n")
        ? await ask(`${selects.commit} where n is not null and n > $1 order by n limit $2`, after === undefined ? 0 : Number(after.slice(1)), limit)
        : [];
    if (numbered.length === limit) return numbered;
    const id = after?.startsWith("r") ? after.slice(1) : lowest.job;
    return [...numbered, ...(await ask(`${selects.commit} where n is null and id > $1 order by id limit $2`, id, limit - numbered.length))];
  }

  async function look(part: MovePart, ids: readonly (string | number)[]): Promise<readonly Moved[]> {
    let found: readonly Found[];
    if (part === "commit") {
      const [numbers, resolved] = [ids.filter((id) => (id as string).startsWith("n")), ids.filter((id) => (id as string).startsWith("r"))];
      found = await ask(
        `${selects.commit} where n = any ($1::bigint[]) or n is null and id = any ($2::uuid[])`,
        numbers.map((id) => Number((id as string).slice(1))),
        resolved.map((id) => (id as string).slice(1)),
      );
    } else found = await ask(`${selects[part]} where ${idColumn[part]} = any ($1::${idType[part]}[])`, ids);
    const byId = new Map(found.map((row) => [rowOf[part](row).id, row]));
    return ids.map((id) => {
      const row = byId.get(id);
      return row ? rowOf[part](row) : { part, id, gone: true };
    });
  }

  return {
    async nowMs() {
      const [row] = await ask(`select ${table("store_now")}(null) as now`);
      return Number(row?.["now"]);
    },
    progress,
    async take() {
      await progress();
      return alone(async (session) => {
        const [known] = await rows(session, "update moving set mover = $1 returning progress", me);
        return known && (JSON.parse(known["progress"] as string) as MoveProgress);
      });
    },
    whileMine: (work) =>
      alone(async (session) => {
        await insist(session);
        await work();
      }),
    begin: (first) =>
      alone(async (session) => {
        await insist(session);
        await refuseUsed((text) => rows(session, text));
        await rows(session, "update store set epoch = 0");
        await keep(session, first);
      }),
    load: (moved, next) =>
      alone(async (session) => {
        await insist(session);
        await load(session, moved);
        await keep(session, next);
      }),
    page,
    async count(part, nowMs) {
      const where = part === "record" ? " where expires_at_ms is null or expires_at_ms > $1" : part === "token" ? " where keep_until_ms > $1" : "";
      const [row] = await ask(`select count(*) as rows from (${selects[part]}${where}) counted`, ...(where ? [nowMs] : []));
      return Number(row?.["rows"]);
    },
    look,
    open: (cut, last, tables) =>
      alone(async (session) => {
        await insist(session);
        await session.script("set local search_path to default; set local statement_timeout = 0");
        await tables(newTables(session, schema));
        await session.script(`set constraints all immediate; set local search_path = "${schema}", pg_temp`);
        // Every line that has something ready begins at its first place.
        await rows(
          session,
          "select line_up(array_agg(x.queue), array_agg(x.share), array_agg(x.priority), 0) from (select distinct queue, share, priority from job where state = 1) x having count(*) > 0",
        );
        await rows(session, "select move_mark(8, x.queue, '', 0, 0) from (select distinct queue from job) x where mark_of(8, x.queue, '', 0) is null");
        await rows(
          session,
          `update store set epoch = $1, home = current_home(), system = (select system_identifier from pg_control_system()), head_position = greatest(head_position, $2),
            trimmed_n = greatest(trimmed_n, (select coalesce(min(n), $3 + 1) - 1 from commit))`,
          cut.epoch,
          cut.position,
          cut.n,
        );
        await keep(session, last);
      }),
    abandon: () =>
      alone(async (session) => {
        await insist(session);
        await rows(session, "select set_config('trestle.maintenance', 'on', true)");
        for (const name of ["commit", "event", "stream_head", "record", "entry", "token", "job", "job_mark", "job_paused", "migration", "moving"])
          await rows(session, `delete from ${name}`);
        await rows(session, "update store set epoch = 1, head_position = 0, trimmed_n = 0");
      }),
    close: () => pool.close(),
  };
}

const bytes = (value: Uint8Array): Buffer => Buffer.from(value.buffer, value.byteOffset, value.byteLength);
function given<Name extends string, T>(name: Name, value: unknown, as: (value: unknown) => T): { [K in Name]?: T } {
  return (value === null || value === undefined ? {} : { [name]: as(value) }) as { [K in Name]?: T };
}

type Plain = Exclude<MovePart, "commit">;
const idColumn: { readonly [P in Plain]: string } = { event: "position", stream: "stream", record: "key", token: "key", job: "id", queue: "t.queue" };
const idType: { readonly [P in Plain]: string } = { event: "bigint", stream: "text", record: "text", token: "text", job: "uuid", queue: "text" };
const lowest: { readonly [P in Plain]: string | number } = {
  event: 0,
  stream: "",
  record: "",
  token: "",
  job: "00000000-0000-0000-0000-000000000000",
  queue: "",
};
