/**
 * Callers as a process: `caller.ts <trouble> <running> <url> <start>`. They come whether others were answered or not. Prints what became of the calls, by second: JSON.
 * `stall` is this process's own: it stands still for a second, twice.
 */
import { guardedFetch } from "trestle/adapters";
import { withContext } from "trestle/kernel";
import { guard } from "./guard.ts";
import { forMs, fromMs, perSecond, untilMs, type Trouble } from "./trouble.ts";

const [trouble, running, url, startMs] = [process.argv[2] as Trouble, process.argv[3] as string, process.argv[4] as string, Number(process.argv[5])];
const ask = guardedFetch(guard(running));

export interface Second {
  readonly critical: { came: number; served: number };
  readonly prefetch: { came: number; served: number };
}
const seconds: Second[] = Array.from({ length: Math.ceil(forMs / 1_000) }, () => ({ critical: { came: 0, served: 0 }, prefetch: { came: 0, served: 0 } }));
const now = () => Date.now() - startMs;

/** What comes before the start warms up, and is not counted. */
function come(kind: keyof Second, atMs: number): void {
  const tally = seconds[Math.floor(atMs / 1_000)]?.[kind] ?? { came: 0, served: 0 };
  tally.came++;
  void withContext({ priority: kind === "critical" ? "high" : "low" }, () => ask(url)).then(
    async (response) => {
      if ((await response.text()) === "{}") tally.served++;
    },
    () => undefined,
  );
}

const standsStill = new Int32Array(new SharedArrayBuffer(4));
const stalls = trouble === "stall" ? [fromMs, untilMs - 1_000] : [];
let nextMs = { critical: now(), prefetch: now() };
await new Promise<void>((resolve) => {
  const tick = setInterval(() => {
    const atMs = now();
    if (atMs >= forMs) {
      clearInterval(tick);
      setTimeout(resolve, 1_500);
      return;
    }
    if (stalls[0] !== undefined && atMs >= stalls[0]) {
      stalls.shift();
      Atomics.wait(standsStill, 0, 0, 1_000);
    }
    for (const kind of ["critical", "prefetch"] as const)
      while (nextMs[kind] <= atMs) {
        come(kind, Math.min(nextMs[kind], forMs - 1));
        nextMs = { ...nextMs, [kind]: nextMs[kind] + (-Math.log(1 - Math.random()) * 1_000) / perSecond(trouble, nextMs[kind])[kind] };
      }
  }, 2);
});
process.stdout.write(`${JSON.stringify(seconds)}\n`);
process.exit(0);
