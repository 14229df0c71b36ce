/**
 * The disks of a simulation. Every world begins with the same one: the app's migrations and seeds are on it, so that no seed pays for them. A disk that is
 * put back is wound back to that, with its statements still prepared, which is most of what a new one would cost.
 */
import { startInside, type App } from "../app/index.ts";
import { jsonLogger, metricsRegistry, seededRandom, uuidv7Ids, whenSettled, type Clock } from "../kernel/index.ts";
import { answersKeptForMs } from "../service/index.ts";
import type { memoryDisks } from "../sqlite/index.ts";
import { startWallMs } from "./world.ts";

type Disks = Awaited<ReturnType<typeof memoryDisks>>;
export type Disk = InstanceType<Disks["MemoryDisk"]>;

export interface DiskShelf {
  readonly engine: Disks;
  take(): Disk;
  putBack(disk: Disk): void;
  close(): void;
}

export async function diskShelf(app: App, settings: Readonly<Record<string, string>>, engine: Disks): Promise<DiskShelf> {
  const image = await firstImage(app, settings, engine);
  const free: Disk[] = [];
  return {
    engine,
    take: () => free.pop() ?? new engine.MemoryDisk(image),
    putBack(disk) {
      if (disk.rewind()) free.push(disk);
      else disk.close();
    },
    close: () => {
      for (const disk of free.splice(0)) disk.close();
    },
  };
}

async function firstImage(app: App, settings: Readonly<Record<string, string>>, { MemoryDisk, openOnMemoryDisk }: Disks): Promise<Uint8Array> {
  const disk = new MemoryDisk();
  const clock: Clock = { wallMs: () => startWallMs - 1_000, monotonicMs: () => 0, after: () => ({ cancel: () => undefined }), soon: whenSettled };
  const random = seededRandom("the first image");
  const ids = uuidv7Ids(clock, random);
  const atOnce = () => Promise.resolve();
  const store = openOnMemoryDisk(disk, { clock, ids, timing: { write: atOnce, flush: atOnce } });
  // Tokens are in tables by time and class: those that the app will need at first are made here, because a table that is made has every statement prepared again.
  const writes = [...answersKeptForMs(app.components)].map((keepForMs) => ({
    kind: "token" as const,
    key: `~simulation//${keepForMs}`,
    value: new Uint8Array(),
    keepForMs,
  }));
  await store.commit({ id: ids.next(), expects: [], writes });
  const node = await startInside(
    app,
    { settings, roles: [] },
    {
      store,
      clock,
      random,
      metrics: metricsRegistry(),
      logger: jsonLogger({ clock, write: () => undefined, level: "error" }),
      name: "first-image",
      listens: false,
    },
  );
  await node.stop();
  const image = disk.image();
  disk.close();
  return image;
}
