/** What `trestle doctor` asks of a server: whether a store would live well there. It makes nothing and changes nothing. */
import { systemClock, systemRandom } from "trestle/kernel";
import { openPool, type Session } from "./sessions.ts";
import { placeOf } from "./url.ts";

export interface Finding {
  readonly name: string;
  /** `warn`: it works, with something given up. `fail`: a store would not open, or would lose what it promises to keep. */
  readonly status: "ok" | "warn" | "fail";
  readonly reason: string;
  readonly fix?: string;
}

interface Facts {
  readonly version: number;
  readonly fsync: string;
  readonly full_page_writes: string;
  readonly isolation: string;
  readonly encoding: string;
  readonly recovery: boolean;
  readonly connections: number;
  readonly used: string;
  readonly encrypted: boolean | null;
  readonly now_ms: string;
  readonly made: boolean;
  readonly may_make: boolean;
}

const probes = 20;

export async function examinePostgres(url: string): Promise<readonly Finding[]> {
  const place = placeOf(url);
  const pool = openPool({ url: place.url, name: "trestle doctor", size: 1, answerWithinMs: 10_000, clock: systemClock, random: systemRandom });
  try {
    return await pool.use((session) => examine(session, place.schema));
  } catch (error) {
    const { message, remedy } = error as { readonly message: string; readonly remedy?: string };
    return [{ name: "server", status: "fail", reason: message, fix: remedy ?? "Check the URL, the role and that the server runs." }];
  } finally {
    await pool.close();
  }
}

async function examine(session: Session, schema: string): Promise<readonly Finding[]> {
  const before = systemClock.wallMs();
  const [facts] = (
    await session.query<Facts>({
      text: `select current_setting('server_version_num')::integer as version, current_setting('fsync') as fsync, current_setting('full_page_writes') as full_page_writes,
        current_setting('default_transaction_isolation') as isolation, current_setting('server_encoding') as encoding, pg_is_in_recovery() as recovery,
        current_setting('max_connections')::integer as connections, (select count(*) from pg_stat_activity where backend_type = 'client backend') as used,
        (select s.ssl from pg_stat_ssl s where s.pid = pg_backend_pid()) as encrypted, floor(extract(epoch from clock_timestamp()) * 1000)::bigint as now_ms,
        to_regclass($1) is not null as made, has_database_privilege(current_database(), 'create') as may_make`,
      values: [`"${schema}".store`],
    })
  ).rows;
  if (!facts) return [];
  const offsetMs = Number(facts.now_ms) - (before + systemClock.wallMs()) / 2;
  const found: Finding[] = [
    facts.version >= 140_000
      ? { name: "server", status: "ok", reason: `PostgreSQL ${Math.floor(facts.version / 10_000)}; 14 or newer is needed` }
      : { name: "server", status: "fail", reason: `PostgreSQL ${Math.floor(facts.version / 10_000)}; 14 or newer is needed`, fix: "Upgrade the server." },
    facts.fsync === "on" && facts.full_page_writes === "on"
      ? { name: "durability", status: "ok", reason: "fsync and full_page_writes are on: what was acknowledged survives a power loss" }
      : { name: "durability", status: "fail", reason: "fsync or full_page_writes is off: a power loss destroys the store", fix: "Switch both on." },
    facts.encoding === "UTF8"
      ? { name: "encoding", status: "ok", reason: "UTF8" }
      : {
          name: "encoding",
          status: "fail",
          reason: `the database's encoding is ${facts.encoding}, keys are UTF-8`,
          fix: "Make a database with encoding UTF8.",
        },
  ];
  if (facts.recovery)
    found.push({
      name: "primary",
      status: "fail",
      reason: "this server is a standby and takes no writes",
      fix: "Name the primary; target_session_attrs in the URL finds it.",
    });
  found.push(
    facts.made || facts.may_make
      ? { name: "schema", status: "ok", reason: facts.made ? `${schema} is there` : `${schema} will be made` }
      : { name: "schema", status: "fail", reason: `${schema} is not there, and this role may not make it`, fix: "Open the store once with a role that may." },
  );
  const left = facts.connections - Number(facts.used);
  found.push({
    name: "connections",
    status: left >= 13 ? "ok" : "warn",
    reason: `${left} of ${facts.connections} are free; a process takes up to 13`,
    ...(left < 13 && { fix: "Raise max_connections, or put a pooler between." }),
  });
  if (session.pooled) found.push({ name: "pooler", status: "ok", reason: "there is one between: notices come by polling, every 100 ms" });
  if (session.pooled && facts.isolation !== "read committed")
    found.push({
      name: "isolation",
      status: "fail",
      reason: `${facts.isolation} is the default, and behind a pooler it stays`,
      fix: "Reset default_transaction_isolation of the role and database.",
    });
  if (facts.encrypted === false)
    found.push({
      name: "encryption",
      status: "warn",
      reason: "the connection is not encrypted",
      fix: "Add ?sslmode=verify-full to the URL, unless the network is yours alone.",
    });
  found.push(
    Math.abs(offsetMs) < 2_000
      ? { name: "server clock", status: "ok", reason: `the server's is ${Math.abs(Math.round(offsetMs))} ms away from this machine's` }
      : {
          name: "server clock",
          status: "warn",
          reason: `the server's is ${Math.round(offsetMs)} ms away from this machine's`,
          fix: "Let NTP keep both: commit ids carry this machine's time.",
        },
  );
  if (!facts.recovery) found.push(await flushSpeed(session));
  return found;
}

/** What a durable commit waits for at the least: the round trip and the flush. */
async function flushSpeed(session: Session): Promise<Finding> {
  const took: number[] = [];
  for (let i = 0; i < probes; i++) {
    const from = systemClock.monotonicMs();
    await session.query({ text: "select pg_logical_emit_message(true, 'trestle', '')" });
    took.push(systemClock.monotonicMs() - from);
  }
  took.sort((a, b) => a - b);
  const median = took[probes / 2] as number;
  const reason = `half within ${median.toFixed(2)} ms, the slowest of ${probes} ${(took.at(-1) as number).toFixed(1)} ms`;
  return median > 20
    ? {
        name: "flush",
        status: "warn",
        reason: `${reason}: every durable commit waits that long`,
        fix: "Move closer to the server, or to a faster disk; many callers at once share one flush.",
      }
    : { name: "flush", status: "ok", reason };
}
