/**
 * The host that has the store: the real engine on a disk that can lose its power. Its process and its disk fail apart: a process that is killed leaves
 * what was written to the operating system, a power loss decides anew about what was not flushed.
 */
import type { Clock } from "../kernel/index.ts";
import type { Host, Life, World } from "./world.ts";
import type { Store } from "../store/index.ts";
import type { memoryDisks } from "../sqlite/index.ts";

type Disks = Awaited<ReturnType<typeof memoryDisks>>;

/** A flush takes at least so long and at most so much. */
const flushMs = [0.5, 4] as const;

/**
 * SQLite, or what differs from it when it is PostgreSQL: a standby that may take over, statements that a deadlock ends, clients as PostgreSQL has them. The
 * engine, and with it the dialect of the user's SQL, is SQLite's in both.
 */
export type StoreKind = "sqlite" | "postgres";

export interface StoreHost {
  readonly kind: StoreKind;
  readonly host: Host;
  /** With the store as it is at the beginning. It outlives this world. */
  readonly disk: InstanceType<Disks["MemoryDisk"]>;
  /** Of its present life. */
  readonly store: Store | undefined;
  /** So much longer takes each flush. */
  slowByMs: number;
  /** This part of the user's statements is ended by a deadlock. */
  deadlockShare: number;
  boot(): void;
  /** Ends its process; `power`: that of its machine too; `fail-over`: for good, and what boots next is the standby. */
  crash(how: "process" | "power" | "fail-over"): void;
  /** Called in each new life, when its store is open. */
  onOpen(listener: (life: Life, store: Store) => void): void;
  /** Called whenever something became durable. */
  onDurable(listener: () => void): void;
}

export interface StoreHostOptions {
  readonly kind: StoreKind;
  /** In place of its host's, for who moves the store's time. */
  readonly clock?: Clock;
}

export function storeHost(world: World, { openOnMemoryDisk }: Disks, disk: StoreHost["disk"], { kind, clock }: StoreHostOptions): StoreHost {
  const host = world.host("store");
  const opened: ((life: Life, store: Store) => void)[] = [];
  const durable: (() => void)[] = [];
  let store: Store | undefined;

  const self: StoreHost = {
    kind,
    host,
    disk,
    get store() {
      return host.life && store;
    },
    slowByMs: 0,
    deadlockShare: 0,
    boot() {
      host.boot((life) => {
        const moment = (label: string, afterMs: number) =>
          new Promise<void>((resolve) => {
            // A life that ended reaches nobody: its disk goes on without it.
            world.at(afterMs, life, label, resolve);
          });
        const chance = life.random;
        store = openOnMemoryDisk(disk, {
          clock: clock ?? life.clock,
          ids: life.ids,
          timing: {
            // Whoever looks at what has become durable looks before this: afterwards the disk has what is not.
            write: () => moment("write", 0.01),
            flush: async () => {
              await moment("flush", flushMs[0] + chance.next() * (flushMs[1] - flushMs[0]) + self.slowByMs);
              // The engine flushes when this resolves, and tells whoever waits; whoever looks at the world looks after that.
              if (durable.length === 0) return;
              world.at(0, undefined, "durable", () => {
                for (const listener of durable) listener();
              });
            },
          },
        });
        for (const listener of opened) listener(life, store);
      });
    },
    crash(how) {
      host.crash();
      store = undefined;
      // SQLite's log ends where its checksums do: what is left of what was not flushed is whole batches, from the first on.
      disk.losePower(how === "process" ? disk.unflushed : Math.floor(host.order.next() * (disk.unflushed + 1)));
      if (how === "fail-over") disk.failOver();
    },
    onOpen: (listener) => void opened.push(listener),
    onDurable: (listener) => void durable.push(listener),
  };
  return self;
}
