/** The store as every world finds it: the app's migrations and seeds are in it, so that no seed pays for them again. */
import { startInside, type App } from "../app/index.ts";
import { jsonLogger, metricsRegistry, seededRandom, uuidv7Ids, whenSettled, type Clock } from "../kernel/index.ts";
import type { memoryDisks } from "../sqlite/index.ts";
import { startWallMs } from "./world.ts";

export async function firstImage(
  app: App,
  settings: Readonly<Record<string, string>>,
  { MemoryDisk, openOnMemoryDisk }: Awaited<ReturnType<typeof memoryDisks>>,
): Promise<Uint8Array> {
  const disk = new MemoryDisk();
  const clock: Clock = { wallMs: () => startWallMs - 1_000, monotonicMs: () => 0, after: () => ({ cancel: () => undefined }), soon: whenSettled };
  const atOnce = () => Promise.resolve();
  const random = seededRandom("the first image");
  const store = openOnMemoryDisk(disk, { clock, ids: uuidv7Ids(clock, random), timing: { write: atOnce, flush: atOnce } });
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
