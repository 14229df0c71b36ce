/**
 * Connections that come back. A pool opens a connection when one is needed and none is free, up to its size, and opens another one
 * after it was lost. Nothing is sent twice here: whoever asked hears that the connection was lost, and knows whether asking again is safe.
 *
 * A connection: *opening* (again and again with back-off, until the wait is over) → *free* ⇄ *busy* → *lost* (the server ended it,
 * it broke, or it did not answer in time). Only an attempt that the server refuses for good (password, database) ends at once.
 *
 * Who waits stands in a waiting line (trestle/resilience): by the priority of its context, then in fair turns by its tenant, one each, and fewer for who holds them for longer than the average; nobody gets one whose time
 * is over. How long one is held is not held against callers with little time left: a migration and a look-up share a pool.
 *
 * Faults: `store.unreachable` (no connection could be opened: dead), `store.overloaded` (all are busy, or the server has no slot left),
 * `store.closed`.
 */
import { Socket } from "node:net";
import pg from "pg";
import { currentContext, Fault, sleep, withContext, type Clock, type Random, type Timer } from "trestle/kernel";
import { WaitingLine, type Place, type Refusal, type Waiter } from "trestle/resilience";

export interface Query {
  /** Prepared once per connection under this name; not behind a pooler, which hands each transaction another server session. */
  readonly name?: string;
  readonly text: string;
  readonly values?: readonly unknown[];
  readonly types?: pg.CustomTypesConfig;
  /** One statement only, also when it has no parameters. */
  readonly extended?: boolean;
}

export interface Answer<Row extends object> {
  readonly rows: readonly Row[];
  readonly command: string;
  readonly rowCount: number | null;
}

/** One connection, used by one caller at a time; what it asks before it has an answer is sent behind, and done in order. */
export interface Session {
  query<Row extends object>(query: Query): Promise<Answer<Row>>;
  /** Several statements in one message, without parameters: one transaction unless they say otherwise. */
  script(text: string, options?: { readonly unbounded?: boolean }): Promise<readonly Answer<Record<string, unknown>>[]>;
  /** Another process is between: `set`, `listen` and advisory locks of the session do not work, nor is a query sent before the one before was answered. */
  readonly pooled: boolean;
  /** Ends it without a word, so that the server rolls back. */
  destroy(): void;
  onNotice(listener: (channel: string, payload: string) => void): void;
  onEnd(listener: () => void): void;
}

export interface Pool {
  query<Row extends object>(query: Query): Promise<readonly Row[]>;
  /** A session for as long as `work` takes. The wait for it ends with the deadline of the context, or after `waitMsMax`. */
  use<T>(work: (session: Session) => Promise<T>): Promise<T>;
  /** Waits for what is busy. */
  close(): Promise<void>;
}

export interface PoolOptions {
  readonly url: string;
  /** `application_name`: what an operator sees in pg_stat_activity. */
  readonly name: string;
  readonly size: number;
  /** A statement that has no answer by then has none, and its connection is dead. */
  readonly answerWithinMs: number;
  /** The longest wait for a free or new connection; default 10,000. */
  readonly waitMsMax?: number;
  /** What holds the connections when none became free, and what helps then. Default: somebody's statements. */
  readonly whenBusy?: WhenBusy;
  readonly clock: Clock;
  readonly random: Random;
}
export interface WhenBusy {
  readonly holds: string;
  readonly remedy: string;
}

/** Slow statements, or too many at once. */
const statements: WhenBusy = { holds: "all are in use", remedy: "Send fewer at once, or look for slow statements in pg_stat_activity." };
/** For as long a server that is not there is asked again before its callers are told. */
export const reachMsMax = 5_000;
const backOffMs = { first: 20, most: 1_000 } as const;

interface Opened extends Session {
  readonly end: () => Promise<void>;
  alive: boolean;
}
/** A session, and where its holder had waited for it. */
interface Lent {
  readonly session: Opened;
  readonly place: Place | undefined;
}
interface Asking extends Waiter {
  readonly give: (lent: Lent) => void;
  readonly refuse: (fault: Fault) => void;
}
/** So many may wait; then the last of the tenant with the most, or the least urgent, goes. */
const waitingMost = 100_000;

export function openPool(options: PoolOptions): Pool {
  const { clock, random, size, name, waitMsMax = 10_000, whenBusy = statements } = options;
  const free: Opened[] = [];
  const line = new WaitingLine<Asking>({ order: "fair", random });
  line.from = line.most = waitingMost;
  /** For how long a session is held on average; 0: not known. */
  let heldMs = 0;
  const all = new Set<Opened>();
  let opening = 0;
  let closed = false;
  let drained: (() => void) | undefined;

  async function connect(untilMs: number): Promise<Opened> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await openSession(options, clock);
      } catch (error) {
        const leftMs = untilMs - clock.monotonicMs();
        const backMs = Math.min(backOffMs.most, backOffMs.first * 2 ** attempt) * (0.5 + random.next() / 2);
        if (closed || isForGood(error) || backMs >= leftMs) throw unreachable(error);
        await awake(sleep(clock, backMs));
      }
    }
  }

  /** One more connection for whoever waits; its failure is that of the one who waits longest. */
  function grow(untilMs: number): void {
    opening++;
    connect(untilMs).then(
      (session) => {
        opening--;
        all.add(session);
        session.onEnd(() => lost(session));
        // It may have been lost between opening and here.
        if (session.alive) put(session);
        else lost(session);
      },
      (error: unknown) => {
        opening--;
        (line.take(clock.monotonicMs())?.waiter as Asking | undefined)?.refuse(error as Fault);
        if (line.size > all.size + opening && !closed) grow(clock.monotonicMs() + reachMsMax);
        settle();
      },
    );
  }

  function put(session: Opened): void {
    const place = line.take(clock.monotonicMs());
    if (place) (place.waiter as Asking).give({ session, place });
    else {
      free.push(session);
      settle();
    }
  }

  function lost(session: Opened): void {
    if (!all.delete(session)) return;
    const at = free.indexOf(session);
    if (at >= 0) free.splice(at, 1);
    if (line.size > 0 && all.size + opening < size) grow(clock.monotonicMs() + reachMsMax);
    settle();
  }

  function settle(): void {
    if (closed && opening === 0 && line.size === 0 && free.length === all.size) drained?.();
  }

  function acquire(): Promise<Lent> {
    if (closed) throw Fault.create("store.closed", "The store is closed.", "Do not use it after close().");
    const session = free.pop(); // the warmest
    if (session) return Promise.resolve({ session, place: undefined });
    const { tenant, priority, deadlineMs } = currentContext();
    const cameMs = clock.monotonicMs();
    const boundMs = Math.max(0, Math.min((deadlineMs ?? Infinity) - cameMs, waitMsMax));
    return new Promise((resolve, reject) => {
      const inVain = (reason: Refusal) =>
        all.size > 0 ? busy(whenBusy, { reason, boundMs, size, name }) : unreachable(new Error(`no connection within ${Math.round(boundMs)} ms`));
      const timer: Timer = clock.after(boundMs, () => {
        line.remove(asking, clock.monotonicMs());
        reject(inVain("waited"));
      });
      const asking: Asking = {
        key: tenant ?? "",
        priority,
        untilMs: deadlineMs ?? Infinity,
        cost: 1,
        place: undefined,
        declined: () => asking.refuse(inVain(asking.place as Refusal)),
        give: (lent) => (timer.cancel(), resolve(lent)),
        refuse: (fault) => (timer.cancel(), reject(fault)),
      };
      if (line.push(asking, cameMs)) return asking.declined(cameMs);
      if (all.size + opening < size) withContext({ deadlineMs: undefined, signal: undefined }, () => grow(clock.monotonicMs() + Math.min(boundMs, reachMsMax)));
    });
  }

  /**
   * One that was held for long says little about the others: it counts as four times the average at most. Who holds one for longer than the average has its next turns later; nobody has more turns
   * for holding it more briefly, because after a slow while that would be dozens at once.
   */
  function held(ms: number, place: Place | undefined): void {
    heldMs = heldMs === 0 ? ms : heldMs + (Math.min(ms, 4 * heldMs) - heldMs) / 16;
    if (place && ms > heldMs) line.charge(place, ms / heldMs, clock.monotonicMs());
  }

  async function use<T>(work: (session: Session) => Promise<T>): Promise<T> {
    const { session, place } = await acquire();
    const fromMs = clock.monotonicMs();
    try {
      return await work(session);
    } finally {
      held(clock.monotonicMs() - fromMs, place);
      if (session.alive) put(session);
      else lost(session);
    }
  }

  return {
    use,
    query: (query) => use(async (session) => (await session.query(query)).rows as never),
    async close() {
      closed = true;
      await new Promise<void>((resolve) => {
        drained = resolve;
        settle();
      });
      await Promise.all([...all].map((session) => session.end()));
    },
  };
}

/** Timers let a process end, and between two attempts nothing else is open: who only waits for a connection would end without a word. */
async function awake<T>(wait: Promise<T>): Promise<T> {
  const { port1 } = new MessageChannel();
  port1.ref();
  try {
    return await wait;
  } finally {
    port1.close();
  }
}

async function openSession({ url, name, answerWithinMs }: PoolOptions, clock: Clock): Promise<Opened> {
  const socket = new Socket();
  const client = new pg.Client({
    connectionString: url,
    application_name: name,
    connectionTimeoutMillis: reachMsMax,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    pipeline: true,
    stream: () => socket,
  });
  const ended: (() => void)[] = [];
  const gone = () => {
    if (!session.alive) return;
    session.alive = false;
    for (const listener of ended) listener();
  };
  client.on("error", gone);
  client.on("end", gone);

  async function answered<T>(asked: Promise<T>, unbounded = false): Promise<T> {
    const timer = unbounded ? undefined : clock.after(answerWithinMs, () => socket.destroy());
    try {
      return await asked;
    } catch (error) {
      // The server's last words arrive before the socket ends: whoever comes next must not be sent into it.
      if (!wasRolledBack(error)) gone();
      throw error;
    } finally {
      timer?.cancel();
    }
  }
  const session: Opened & { pooled: boolean } = {
    alive: true,
    pooled: false,
    query: ({ name: prepared, text, values = [], types, extended }) =>
      answered(
        client.query({
          ...(prepared !== undefined && !session.pooled && { name: prepared }),
          text,
          values: [...values],
          ...(types && { types }),
          ...(extended && { queryMode: "extended" }),
        }),
      ),
    async script(text, { unbounded = false } = {}) {
      const answers: unknown = await answered(client.query(text), unbounded);
      return (Array.isArray(answers) ? answers : [answers]) as Awaited<ReturnType<Session["script"]>>;
    },
    destroy() {
      gone();
      socket.destroy();
    },
    onNotice: (listener) => void client.on("notification", ({ channel, payload }) => listener(channel, payload ?? "")),
    onEnd: (listener) => void ended.push(listener),
    async end() {
      const left = client.end().catch(() => undefined);
      const timer = clock.after(1_000, () => socket.destroy());
      await left;
      timer.cancel();
    },
  };
  try {
    await client.connect();
    const { pid } = (await client.query<{ pid: number }>("select pg_backend_pid() as pid")).rows[0] as { pid: number };
    // A pooler greets with a number of its own.
    session.pooled = (client as unknown as { readonly processID: number }).processID !== pid;
    // A role or database may default to another isolation; a pooler's session is not ours to change, and the functions refuse there.
    if (!session.pooled) await client.query("set default_transaction_isolation = 'read committed'");
    return session;
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

/** SQLSTATEs with which the server ends the session: connection exceptions, shutdown, crash, the time-outs of idle sessions and transactions. */
const ends = /^(08|57P0[1-5]|25P0[34])/;

/**
 * Did the server refuse the statement and roll it back? Otherwise the connection is gone, and nobody knows. The code tells: the severity is a word
 * in the server's language (`lc_messages`), and only an internal error has none of its own.
 */
export function wasRolledBack(error: unknown): error is Error & { readonly code: string; readonly detail?: string } {
  const { code, severity } = error as { code?: unknown; severity?: unknown };
  if (typeof code !== "string" || typeof severity !== "string" || ends.test(code)) return false;
  return severity === "ERROR" || !(severity === "FATAL" || severity === "PANIC" || code.startsWith("XX"));
}

/** Wrong credentials, no such database, a server that speaks no TLS: asking again changes nothing. */
function isForGood(error: unknown): boolean {
  const { code, message } = error as { code?: unknown; message?: string };
  return (typeof code === "string" && /^(28...|3D000|42501)$/.test(code)) || /SSL|certificate/i.test(message ?? "");
}

function unreachable(cause: unknown): Fault {
  const { code, message } = cause as { code?: unknown; message: string };
  if (code === "53300")
    return Fault.create(
      "store.overloaded",
      `PostgreSQL has no connection slot left: ${message}`,
      "Raise max_connections, run fewer processes, or put a pooler between.",
      { cause },
    );
  return Fault.create("store.unreachable", `PostgreSQL could not be reached: ${message}`, "Check the URL, the role and that the server runs.", { cause });
}

interface Busy {
  readonly reason: Refusal;
  readonly boundMs: number;
  readonly size: number;
  readonly name: string;
}

function busy({ holds, remedy }: WhenBusy, { reason, boundMs, size, name }: Busy): Fault {
  return Fault.create("store.overloaded", `no connection of ${size} (${name}) ${why[reason]} ${Math.round(boundMs)} ms: ${holds}`, remedy, {
    details: { reason, boundMs, size },
  });
}

const inTime = "became free within";
const why: Readonly<Record<Refusal, string>> = {
  waited: inTime,
  late: inTime,
  full: inTime,
  early: inTime,
  displaced: "was left by more urgent callers within",
  share: "was left by callers of tenants with fewer waiting within",
};
