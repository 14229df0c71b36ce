/**
 * What the processes of a queue hold while a million jobs wait in it: `npm run bench -- memory [--jobs 1000000] [--store sqlite|postgres] [--plain]`.
 *
 * One process sends the jobs, 200 B each, and ends; then another one works them off, with a handler that does nothing. Each says every second what it
 * holds; the maximum is the operating system's (getrusage), so nothing between two seconds is missed. With `--check` it exits with 1 when the
 * worker held 200 MB or more, or a job is left.
 */
import { fork } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { postgres } from "@trestle/testing";
import { machine } from "../harness/machine.ts";
import type { Said } from "./process.ts";

const { values } = parseArgs({
  options: {
    jobs: { type: "string", default: "1000000" },
    store: { type: "string", default: "sqlite" },
    plain: { type: "boolean" },
    json: { type: "boolean" },
    check: { type: "boolean" },
  },
});
const jobs = Number(values.jobs);
if (!Number.isInteger(jobs) || jobs < 1 || !["sqlite", "postgres"].includes(values.store)) {
  process.stderr.write(`memory: --jobs is a number from 1, --store is sqlite or postgres; got ${JSON.stringify(values)}\n`);
  process.exit(64);
}
const maxMb = 200;
/** As docs/guides/running.md says for a small machine; `--plain` leaves it out. */
const execArgv = values.plain ? [] : ["--max-old-space-size=256", "--max-semi-space-size=8"];

/** Runs one side to its end; answers the last it said. */
function run(side: "send" | "work", url: string): Promise<Said> {
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(new URL("./process.ts", import.meta.url)), [side, url, String(jobs)], { execArgv: [...process.execArgv, ...execArgv] });
    let last: Said | undefined;
    child.on("message", (said: Said) => {
      last = said;
      process.stderr.write(`\r${side}: ${said.seconds.toFixed(0)} s, ${said.done} jobs, ${said.rssMb} MB, of them heap ${said.heapMb}  `);
    });
    child.on("exit", (code) => {
      process.stderr.write("\n");
      if (code === 0 && last) resolve(last);
      else reject(new Error(`${side} ended with ${code}`));
    });
  });
}

const directory = mkdtempSync(join(tmpdir(), "trestle-memory-"));
const server = values.store === "postgres" ? await postgres({ settings: { shared_buffers: "256MB" } }) : undefined;
try {
  const url = server?.url ?? `sqlite:${join(directory, "store.db")}`;
  const results = [];
  for (const side of ["send", "work"] as const) results.push({ side, ...(await run(side, url)) });
  const failed = results.flatMap(({ side, maxRssMb, done }) => [
    ...(side === "work" && maxRssMb >= maxMb ? [`${side} held ${maxRssMb} MB, the bar is below ${maxMb}`] : []),
    ...(done === jobs ? [] : [`${side}: ${done} jobs, not ${jobs}`]),
  ]);
  if (values.json) console.log(JSON.stringify({ subject: "memory", store: values.store, jobs, execArgv, machine: machine(directory), results, failed }));
  else {
    for (const { side, seconds, maxRssMb, heapMb } of results)
      console.log(
        `${side}  ${seconds.toFixed(1).padStart(7)} s ${String(Math.round(jobs / seconds)).padStart(8)} jobs/s   at most ${maxRssMb} MB, heap at the end ${heapMb} MB`,
      );
    for (const line of failed) console.log(`missed: ${line}`);
  }
  if (values.check && failed.length > 0) process.exitCode = 1;
} finally {
  await server?.close();
  rmSync(directory, { recursive: true });
}
