/**
 * A bank under load, to be hit by failures: transfers between accounts, each one commit of two guarded merges and one event, from many
 * callers over several stores. Every caller keeps what it was told; afterwards the books are compared with all of it.
 *
 * A caller is told one of: `applied` · `refused` (the account has not enough) · `not-applied` (a fault that promises that nothing was) ·
 * `commit.unknown`, and then it asks `resolve` until that answers. Anything else is `untold`, and wrong.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Fault, seededRandom } from "trestle/kernel";
import type { Commit, Store } from "trestle/store";
import { bytes, newId } from "./fixture.ts";

export interface LedgerOptions {
  readonly stores: readonly Store[];
  readonly seed: number;
  /** Default 8 for each store. */
  readonly callers?: number;
  /** The callers stop when it does; the ones on their way are waited for. */
  readonly during: () => Promise<void>;
}

export interface Ledger {
  readonly applied: ReadonlyMap<string, { readonly epoch: number; readonly n: number }>;
  readonly notApplied: ReadonlySet<string>;
  /** Callers that heard `commit.unknown` and were answered by `resolve`. */
  readonly resolved: number;
  readonly untold: readonly string[];
  /** The longest anybody waited to be told. */
  readonly slowestMs: number;
}

const accounts = 12;
const opening = 1_000;
const account = (n: number) => `bank//account-${n}`;

export async function openAccounts(store: Store): Promise<void> {
  const outcome = await store.commit({
    id: newId(),
    expects: [],
    writes: Array.from({ length: accounts }, (_, n) => ({ kind: "put", key: account(n), value: bytes(String(opening)) })),
  });
  if (!outcome.ok) throw new Error("the bank is open already");
}

export async function runLedger({ stores, seed, callers = 8 * stores.length, during }: LedgerOptions): Promise<Ledger> {
  const applied = new Map<string, { readonly epoch: number; readonly n: number }>();
  const notApplied = new Set<string>();
  const untold: string[] = [];
  let resolved = 0;
  let slowestMs = 0;
  let running = true;

  async function tell(store: Store, commit: Commit): Promise<void> {
    try {
      const outcome = await store.commit(commit);
      if (outcome.ok) applied.set(commit.id, outcome);
      else notApplied.add(commit.id);
    } catch (error) {
      if (Fault.is(error, "store.unreachable") || Fault.is(error, "store.overloaded")) notApplied.add(commit.id);
      else if (Fault.is(error, "commit.unknown")) await resolve(store, commit.id);
      else untold.push(`${commit.id}: ${String(error)}`);
    }
  }
  async function resolve(store: Store, id: string): Promise<void> {
    for (let attempt = 1; attempt <= 50; attempt++) {
      try {
        const outcome = await store.resolve(id);
        resolved++;
        if (outcome.ok) applied.set(id, outcome);
        else notApplied.add(id);
        return;
      } catch (error) {
        if (!Fault.is(error, "store.unreachable") && !Fault.is(error, "store.overloaded") && !Fault.is(error, "commit.unknown")) {
          untold.push(`${id}: resolve: ${String(error)}`);
          return;
        }
        await sleep(100);
      }
    }
    untold.push(`${id}: resolve never answered`);
  }
  const loads = Array.from({ length: callers }, async (_, caller) => {
    const random = seededRandom(`${seed} ${caller}`);
    const store = stores[caller % stores.length] as Store;
    while (running) {
      const from = Math.floor(random.next() * accounts);
      const to = (from + 1 + Math.floor(random.next() * (accounts - 1))) % accounts;
      const amount = 1 + Math.floor(random.next() * 200);
      const id = newId();
      const fromMs = performance.now();
      await tell(store, {
        id,
        expects: [],
        writes: [
          { kind: "merge", key: account(from), merge: { kind: "add", amount: -amount, min: 0 } },
          { kind: "merge", key: account(to), merge: { kind: "add", amount } },
          { kind: "append", stream: `bank//transfers-${from}`, events: [{ id, type: "Transferred", data: bytes(JSON.stringify({ from, to, amount })) }] },
        ],
      });
      slowestMs = Math.max(slowestMs, performance.now() - fromMs);
      // Whoever is told "not now" does not ask in a tight loop.
      if (!applied.has(id)) await sleep(20);
    }
  });
  try {
    await during();
  } finally {
    running = false;
    await Promise.all(loads);
  }
  return { applied, notApplied, resolved, untold, slowestMs };
}

/** What is wrong with the books; empty when nothing is. `lost` may be given where losing is allowed, and then gets what was lost. */
export async function auditLedger(store: Store, ledger: Pick<Ledger, "applied" | "notApplied" | "untold">, lost?: Set<string>): Promise<readonly string[]> {
  const wrong: string[] = [...ledger.untold];
  const balances = Array.from({ length: accounts }, () => opening);
  const seen = new Map<string, number>();
  const { epoch } = await store.read.head();
  let position = 0;
  for (let atEnd = false; !atEnd;) {
    const page = await store.read.log({ after: { epoch, position }, limit: 1_000 });
    for (const event of page.events) {
      if (event.position !== position + 1) wrong.push(`position ${event.position} follows ${position}`);
      position = event.position;
      seen.set(event.id, (seen.get(event.id) ?? 0) + 1);
      const { from, to, amount } = JSON.parse(String(Buffer.from(event.data))) as { from: number; to: number; amount: number };
      balances[from] = (balances[from] as number) - amount;
      balances[to] = (balances[to] as number) + amount;
    }
    atEnd = page.atEnd;
  }
  const rows = await store.read.records(balances.map((_, n) => account(n)));
  rows.forEach((row, n) => {
    if (Number(String(Buffer.from(row?.value ?? []))) !== balances[n])
      wrong.push(`account ${n} holds ${String(Buffer.from(row?.value ?? []))}, its events say ${balances[n]}`);
    if ((balances[n] as number) < 0) wrong.push(`account ${n} is overdrawn: ${balances[n]}`);
  });
  for (const [id, times] of seen) {
    if (times > 1) wrong.push(`${id} was applied ${times} times`);
    if (ledger.notApplied.has(id)) wrong.push(`${id} was applied, and its caller was told that it was not`);
  }
  for (const id of ledger.applied.keys()) {
    if (seen.has(id)) continue;
    if (lost) lost.add(id);
    else wrong.push(`${id} is lost: its caller was told that it was applied`);
  }
  return wrong;
}
