/**
 * One of several processes on a store: `fork(member.ts, [file])`. It does what it is told by message and answers by message:
 * `open` first; then for each request `{ id, answer }`. Under `load` it tells of each commit it was answered: `{ told: name, answer }`.
 */
import { Fault, sleep, systemClock, systemRandom, uuidv7Ids } from "../../kernel/index.ts";
import type { ClaimedJob, Write } from "../../store/index.ts";
import { openSqlite } from "../index.ts";

export type Request =
  | { readonly do: "commit"; readonly name: string }
  | { readonly do: "load"; readonly callers: number; readonly prefix: string }
  | { readonly do: "quiet" }
  /** A transaction that inserts `name` into table `t`, says `inside`, and then keeps the lane for so long. */
  | { readonly do: "transaction"; readonly name: string; readonly holdMs: number; readonly withinMs: number; readonly commits: boolean }
  | { readonly do: "claim"; readonly queue: string; readonly limit: number; readonly leaseMs: number }
  | { readonly do: "extend" }
  /** From now on its thread keeps what it claims. */
  | { readonly do: "heartbeat"; readonly leaseMs: number }
  | { readonly do: "finish" }
  | { readonly do: "heard"; readonly since: number }
  | { readonly do: "read"; readonly key: string }
  | { readonly do: "migrate"; readonly component: string; readonly text: string }
  | { readonly do: "backup"; readonly to: string }
  | { readonly do: "block"; readonly ms: number }
  | { readonly do: "stats" }
  | { readonly do: "close" };

const ids = uuidv7Ids(systemClock, systemRandom);
const say = (message: object) => void process.send?.(message);
const text = (value: string) => new TextEncoder().encode(value);
const codeOf = (error: unknown): string => (Fault.is(error) ? error.code : String(error));

const store = await openSqlite({ path: process.argv[2] as string }).catch((error: unknown) => {
  say({ refused: codeOf(error), message: (error as Error).message });
  process.disconnect();
  process.exit(1);
});
const heard = new Set<string>();
store.onChange(({ keys, queues }) => {
  for (const key of keys) heard.add(key);
  for (const queue of queues) heard.add(`queue ${queue}`);
});
let held: readonly ClaimedJob[] = [];
let quiet = true;
let loops: Promise<unknown> = Promise.resolve();

/** An event, a job and a record that can each be there once. */
const writesOf = (name: string): Write[] => [
  { kind: "append", stream: `s//${name}`, events: [{ id: ids.next(), type: "T", data: text(name) }] },
  { kind: "enqueue", job: { id: ids.next(), queue: "ledger", payload: text(name), priority: 1 } },
  { kind: "put", key: `r//${name}`, value: text(name) },
];
async function commit(name: string): Promise<string> {
  const outcome = await store.commit({ id: ids.next(), expects: [{ kind: "stream", stream: `s//${name}`, version: 0 }], writes: writesOf(name) });
  return outcome.ok ? "applied" : outcome.refused;
}

async function does(request: Request): Promise<unknown> {
  switch (request.do) {
    case "commit":
      return commit(request.name);
    case "load":
      quiet = false;
      loops = Promise.all(
        Array.from({ length: request.callers }, async (_, caller) => {
          for (let i = 0; !quiet; i++) {
            const name = `${request.prefix}-${caller}-${i}`;
            const answer = await commit(name).catch(codeOf);
            say({ told: name, answer });
            if (answer !== "applied") await sleep(systemClock, 20);
          }
        }),
      );
      return "loading";
    case "quiet":
      quiet = true;
      await loops;
      return "quiet";
    case "transaction":
      return store.transaction(async (connection) => {
        await connection.execute({ text: "insert into t values (?)", parameters: [request.name] });
        say({ inside: request.name });
        await sleep(systemClock, request.holdMs);
        return {
          result: "ended",
          ...(request.commits && { commit: { id: ids.next(), expects: [], writes: [{ kind: "put", key: `r//${request.name}`, value: text("x") }] } }),
        };
      }, request.withinMs);
    case "claim":
      held = (await store.claim({ holder: "member", leaseMs: request.leaseMs, queues: [{ queue: request.queue, limit: request.limit }] })).jobs;
      return held.map(({ payload, fence }) => ({ name: new TextDecoder().decode(payload), fence: fence.n }));
    case "heartbeat":
      store.heartbeat("member", { leaseMs: request.leaseMs, blockedMsMax: 60_000 });
      return "beats";
    case "extend":
      return store.extend(held, 30_000);
    case "finish":
      return Promise.all(
        held.map(async ({ id, fence }) => {
          const outcome = await store.commit({ id: ids.next(), expects: [], writes: [{ kind: "finish", job: id, fence, end: { kind: "done" } }] });
          return outcome.ok ? "applied" : outcome.refused;
        }),
      );
    case "heard":
      return [...heard];
    case "read":
      return (await store.read.records([request.key]))[0]?.version;
    case "migrate":
      return store.migrate(request.component, [{ name: "1", text: request.text }]);
    case "backup":
      return store.backup(request.to);
    case "block":
      for (const until = performance.now() + request.ms; performance.now() < until;);
      return "free";
    case "stats":
      return store.stats();
    case "close":
      await store.close();
      return "closed";
  }
}

process.on("message", ({ id, request }: { readonly id: number; readonly request: Request }) => {
  does(request).then(
    (answer) => say({ id, answer }),
    (error: unknown) => say({ id, fault: codeOf(error), message: (error as Error).message, details: Fault.is(error) ? error.details : {} }),
  );
});
process.on("disconnect", () => process.exit(0));
say({ open: true });
