/**
 * Jobs and events inside a transaction of somebody else's: an ORM's, a script's, another service's (FINDINGS F7).
 *
 * `stage` puts them beside that transaction's own rows, on its own connection: they are sent when it commits, and never were when it rolls
 * back. They have no position, number or expectation until then, so nobody waits for that transaction, however long it takes. A process
 * with an open store moves what ended transactions have staged into the lane within half a second or so; each item once, those of one
 * transaction in the order they were staged. Between transactions the order is that of being moved.
 */
import { Fault, type Clock, type Ids, type Random } from "trestle/kernel";
import { checkCommit, limits, type Commit, type NewEvent, type NewJob, type Write } from "trestle/store";
import type { Lane } from "./lane.ts";
import { periodic, type Periodic } from "./periodic.ts";
import type { Pool } from "./sessions.ts";

/** What `stage` needs of a client inside its transaction: that of `pg`, or anything that runs text with `$1` parameters. */
export interface StagingClient {
  query(text: string, values: unknown[]): Promise<unknown>;
}

type Facts = { readonly event: Omit<NewEvent, "data" | "meta"> & { readonly stream: string } } | { readonly job: Omit<NewJob, "payload"> };

/**
 * Stages the jobs and events of a commit (`node.staged(uses, write)` makes one from handles). `schema` is the store's, default `trestle`.
 * Fault `postgres.cannot-stage` when the commit holds anything else: what must be judged or numbered cannot wait for somebody else's transaction.
 */
export async function stage(client: StagingClient, commit: Commit, options: { readonly schema?: string } = {}): Promise<void> {
  checkCommit(commit);
  const facts: string[] = [];
  const bodies: Buffer[] = [];
  const metas: (Buffer | null)[] = [];
  const add = (fact: Facts, body: Uint8Array, meta?: Uint8Array) => {
    facts.push(JSON.stringify(fact));
    bodies.push(Buffer.from(body));
    metas.push(meta ? Buffer.from(meta) : null);
  };
  if (commit.expects.length > 0) throw cannotStage(`an expectation (${commit.expects[0]?.kind})`);
  for (const write of commit.writes) {
    if (write.kind === "enqueue") {
      const { payload, ...job } = write.job;
      add({ job }, payload);
    } else if (write.kind === "append") {
      for (const { data, meta, ...event } of write.events) add({ event: { ...event, stream: write.stream } }, data, meta);
    } else throw cannotStage(`a write "${write.kind}"`);
  }
  if (facts.length > 0) await client.query(`select "${options.schema ?? "trestle"}".stage_v1($1, $2, $3)`, [facts, bodies, metas]);
}

function cannotStage(what: string): Fault {
  return Fault.create(
    "postgres.cannot-stage",
    `a foreign transaction can stage jobs and events; this commit has ${what}`,
    "Stage a job, and do the rest in its handler; or use the store's own transaction.",
  );
}

// ---- moving into the lane -------------------------------------------------------------------------------------------

export interface MoverOptions {
  readonly schema: string;
  readonly side: Pool;
  readonly lane: Pick<Lane, "commit">;
  readonly clock: Clock;
  readonly random: Random;
  readonly ids: Ids;
}

interface Staged {
  readonly tx: string;
  readonly seq: string;
  readonly facts: string;
  readonly body: Buffer;
  readonly meta: Buffer | null;
}

const everyMs = 250;
const pageRows = 500;

export function openMover({ schema, side, lane, clock, random, ids }: MoverOptions): Periodic {
  let from = 0;

  async function round(): Promise<number> {
    for (;;) {
      const rows = await side.query<Staged>({ name: "staged", text: `select * from "${schema}".read_staged_v1($1, $2)`, values: [from, pageRows] });
      const staged = rows.slice(0, -1);
      for (const part of partsOf(staged)) {
        const last = part.at(-1) as Staged;
        const tx = Number(last.tx);
        // Another process may have been faster: then what it moved is not there any more, and this commit is refused.
        await lane.commit({ id: ids.next(), expects: [{ kind: "staged", tx, seq: Number(last.seq), rows: part.length }], writes: part.map(writeOf) });
      }
      if (staged.length < pageRows) {
        from = Number(rows.at(-1)?.tx);
        return everyMs;
      }
    }
  }
  return periodic({ clock, random, firstMs: everyMs, round });
}

/** What one commit moves: rows of one transaction, at most half of what a commit may hold. */
function partsOf(rows: readonly Staged[]): readonly (readonly Staged[])[] {
  const parts: Staged[][] = [];
  let bytes = 0;
  for (const row of rows) {
    const size = row.body.byteLength + (row.meta?.byteLength ?? 0) + row.facts.length * 2;
    const part = parts.at(-1);
    if (part && part[0]?.tx === row.tx && bytes + size <= limits.commitBytesMax / 2) {
      part.push(row);
      bytes += size;
    } else {
      parts.push([row]);
      bytes = size;
    }
  }
  return parts;
}

function writeOf({ facts, body, meta }: Staged): Write {
  const known = JSON.parse(facts) as Facts;
  if ("job" in known) return { kind: "enqueue", job: { ...known.job, payload: body } };
  const { stream, ...event } = known.event;
  return { kind: "append", stream, events: [{ ...event, data: body, ...(meta && { meta }) }] };
}
