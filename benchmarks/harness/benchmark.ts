/**
 * A benchmark: variants of one thing under several loads. Each measurement is a fresh process; variants alternate, and the order turns
 * round each round; what is reported are medians over the rounds. A ratio is the median of the rounds' ratios, because the two runs
 * of a round stand next to each other in time and a machine that slows down slows both.
 *
 * stdout is the result: a table, or with `--json` `{subject, machine, variants: [{name, opsPerSec, p50Ms, p99Ms}], ratios: {"<variant>/<baseline>@<load>": n}}`.
 * stderr is progress. `--quick` is one short round; `--rounds n`, `--seconds n`, `--variant a,b` and `--load n` choose; `--check` exits with 1 when a bar is missed.
 */
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { machine } from "./machine.ts";

export interface Measured {
  readonly opsPerSec: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Where several compete: what the one with the least got, as a part of an equal share. */
  readonly leastShare?: number;
  /** Where many things are kept: memory for each. */
  readonly bytesEach?: number;
}

/** What the default export of a variant's module is. It measures for `seconds` at `load` callers, with `scratch` as its own empty directory. */
export type Variant = (run: { readonly load: number; readonly seconds: number; readonly scratch: string }) => Promise<Measured>;

export interface VariantSpec {
  readonly name: string;
  readonly module: URL;
  /** Default: those of the benchmark. */
  readonly loads?: readonly number[];
  readonly env?: Readonly<Record<string, string>>;
}

/** `of` the first variant by `of` the second. For times, smaller is better: use `most`. */
export interface Ratio {
  readonly over: string;
  readonly under: string;
  readonly load: number;
  readonly of?: keyof Measured;
  readonly atLeast?: number;
  readonly atMost?: number;
}

/** How much longer an operation of the first takes than one of the second, in nanoseconds. */
export interface Difference {
  readonly over: string;
  readonly under: string;
  readonly load: number;
  readonly atMostNs?: number;
}

/** A bar on one figure of one variant. */
export interface Bar {
  readonly variant: string;
  readonly load: number;
  readonly of: keyof Measured;
  readonly below?: number;
  readonly atLeast?: number;
}

export interface Benchmark {
  readonly subject: string;
  readonly variants: readonly VariantSpec[];
  readonly loads: readonly number[];
  readonly seconds?: number;
  readonly ratios?: readonly Ratio[];
  readonly differences?: readonly Difference[];
  readonly bars?: readonly Bar[];
  /** Why something is missing from the results: printed, never silent. */
  readonly skipped?: readonly string[];
}

export async function runBenchmark(benchmark: Benchmark): Promise<void> {
  const { values } = parseArgs({
    options: {
      json: { type: "boolean" },
      quick: { type: "boolean" },
      check: { type: "boolean" },
      rounds: { type: "string" },
      seconds: { type: "string" },
      variant: { type: "string" },
      load: { type: "string" },
    },
  });
  const rounds = Number(values.rounds ?? (values.quick ? 1 : 3));
  const seconds = Number(values.seconds ?? (values.quick ? 1 : (benchmark.seconds ?? 4)));
  const plan = benchmark.variants
    .filter(({ name }) => values.variant === undefined || values.variant.split(",").includes(name))
    .flatMap((variant) =>
      (variant.loads ?? benchmark.loads).filter((load) => values.load === undefined || load === Number(values.load)).map((load) => ({ variant, load })),
    )
    .sort((a, b) => a.load - b.load);
  const results = new Map<string, Measured[]>(plan.map(({ variant, load }) => [`${variant.name}@${load}`, []]));
  const home = mkdtempSync(join(tmpdir(), "trestle-bench-"));
  const info = machine(home);
  try {
    for (let round = 0; round < rounds; round++) {
      for (const { variant, load } of round % 2 ? plan.toReversed() : plan) {
        const measured = await inFreshProcess(variant, load, seconds, home);
        results.get(`${variant.name}@${load}`)?.push(measured);
        process.stderr.write(
          `round ${round + 1}/${rounds}  ${`${variant.name}@${load}`.padEnd(24)} ${Math.round(measured.opsPerSec)}/s, p50 ${inMs(measured.p50Ms)} ms, p99 ${inMs(measured.p99Ms)} ms\n`,
        );
      }
    }
  } finally {
    rmSync(home, { recursive: true, force: true });
  }

  const variants = [...results].map(([name, runs]) => ({
    name,
    opsPerSec: round3(median(runs.map((run) => run.opsPerSec))),
    p50Ms: round3(median(runs.map((run) => run.p50Ms))),
    p99Ms: round3(median(runs.map((run) => run.p99Ms))),
    ...(runs[0]?.bytesEach !== undefined && { bytesEach: Math.round(median(runs.map((run) => run.bytesEach as number))) }),
    ...(runs[0]?.leastShare !== undefined && { leastShare: round3(median(runs.map((run) => run.leastShare as number))) }),
  }));
  const ratios: Record<string, number> = {};
  const verdicts: { readonly text: string; readonly met: boolean | undefined }[] = [];
  for (const { over, under, load, of = "opsPerSec", atLeast, atMost } of benchmark.ratios ?? []) {
    const [top, bottom] = [results.get(`${over}@${load}`) ?? [], results.get(`${under}@${load}`) ?? []];
    if (top.length === 0 || top.length !== bottom.length) continue;
    const name = `${over}/${under}@${load}${of === "opsPerSec" ? "" : ` ${of}`}`;
    const value = round3(median(top.map((run, round) => (run[of] as number) / ((bottom[round] as Measured)[of] as number))));
    ratios[name] = value;
    if (atLeast !== undefined) verdicts.push({ text: `${name} = ${value}, bar >= ${atLeast}`, met: value >= atLeast });
    if (atMost !== undefined) verdicts.push({ text: `${name} = ${value}, bar <= ${atMost}`, met: value <= atMost });
  }
  const differencesNs: Record<string, number> = {};
  for (const { over, under, load, atMostNs } of benchmark.differences ?? []) {
    const [longer, shorter] = [results.get(`${over}@${load}`) ?? [], results.get(`${under}@${load}`) ?? []];
    if (longer.length === 0 || longer.length !== shorter.length) continue;
    const name = `${over}-${under}@${load}`;
    const value = Math.round(median(longer.map((run, round) => 1e9 / run.opsPerSec - 1e9 / (shorter[round] as Measured).opsPerSec)));
    differencesNs[name] = value;
    verdicts.push(
      atMostNs === undefined
        ? { text: `${name} = ${value} ns`, met: undefined }
        : { text: `${name} = ${value} ns, bar <= ${atMostNs} ns`, met: value <= atMostNs },
    );
  }
  for (const { variant, load, of, below, atLeast } of benchmark.bars ?? []) {
    const found = variants.find(({ name }) => name === `${variant}@${load}`);
    const value = found?.[of];
    if (value === undefined) continue;
    if (below !== undefined) verdicts.push({ text: `${found?.name} ${of} = ${value}, bar < ${below}`, met: value < below });
    if (atLeast !== undefined) verdicts.push({ text: `${found?.name} ${of} = ${value}, bar >= ${atLeast}`, met: value >= atLeast });
  }

  if (values.json)
    process.stdout.write(
      `${JSON.stringify({ subject: benchmark.subject, machine: info, variants, ratios, ...(benchmark.differences && { differencesNs }) }, undefined, 2)}\n`,
    );
  else {
    process.stdout.write(
      `\n${benchmark.subject} on ${info.cpu} x ${info.cores}, ${info.memoryGb} GB, ${info.os}, Node ${info.node}, fsync ${info.fsyncMs} ms; medians of ${rounds} x ${seconds} s\n\n`,
    );
    process.stdout.write(`${"variant@load".padEnd(26)}${"ops/s".padStart(10)}${"p50 ms".padStart(10)}${"p99 ms".padStart(10)}\n`);
    for (const { name, opsPerSec, p50Ms, p99Ms, leastShare, bytesEach } of variants)
      process.stdout.write(
        `${name.padEnd(26)}${String(Math.round(opsPerSec)).padStart(10)}${inMs(p50Ms).padStart(10)}${inMs(p99Ms).padStart(10)}${leastShare === undefined ? "" : `  least share ${leastShare.toFixed(2)}`}${bytesEach === undefined ? "" : `  ${bytesEach} B each`}\n`,
      );
    process.stdout.write("\n");
    for (const [name, value] of Object.entries(ratios))
      if (!verdicts.some(({ text }) => text.startsWith(`${name} `))) process.stdout.write(`       ${name} = ${value}\n`);
    for (const { text, met } of verdicts) process.stdout.write(`${met === undefined ? "      " : met ? "met   " : "MISSED"} ${text}\n`);
  }
  for (const reason of benchmark.skipped ?? []) process.stderr.write(`skipped: ${reason}\n`);
  if (values.check && verdicts.some(({ met }) => met === false)) process.exitCode = 1;
}

const inMs = (ms: number): string => ms.toFixed(ms < 0.01 ? 6 : 2);
/** Six places: an operation may take nanoseconds. */
const round3 = (value: number): number => (value < 0.1 ? Math.round(value * 1e6) / 1e6 : Math.round(value * 1_000) / 1_000);

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? (sorted[middle] as number) : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

let processes = 0;
function inFreshProcess(variant: VariantSpec, load: number, seconds: number, home: string): Promise<Measured> {
  const scratch = join(home, `run-${++processes}`);
  mkdirSync(scratch);
  return new Promise<Measured>((resolve, reject) => {
    const child = spawn(
      process.execPath,
      [
        "--disable-warning=ExperimentalWarning",
        fileURLToPath(new URL("./child.ts", import.meta.url)),
        fileURLToPath(variant.module),
        String(load),
        String(seconds),
        scratch,
      ],
      {
        stdio: ["ignore", "ignore", "inherit", "ipc"],
        env: { ...process.env, ...variant.env },
      },
    );
    let measured: Measured | undefined;
    const alarm = setTimeout(() => child.kill("SIGKILL"), (seconds + 120) * 1_000);
    child.on("message", (message) => (measured = message as Measured));
    child.on("error", reject);
    child.on("exit", (code, signal) => {
      clearTimeout(alarm);
      if (measured && code === 0) resolve(measured);
      else reject(new Error(`${variant.name}@${load} ended with ${signal ?? `exit code ${code}`}`));
    });
  }).finally(() => rmSync(scratch, { recursive: true, force: true }));
}
