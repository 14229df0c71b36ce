/** `trestle start --processes`: real processes behind one port. */
import assert from "node:assert/strict";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { sleep, systemClock } from "../kernel/index.ts";
import { bookshopFile, place } from "./testing/run.ts";

interface Started {
  readonly url: string;
  readonly processes: readonly { readonly name: string; readonly pid: number }[];
}
interface Status {
  readonly node: { readonly process: string };
  readonly processes: readonly { readonly name: string; readonly pid: number; readonly restarts: number; readonly phase: string }[];
}

/** A connection that was handed to a process in the moment it died is answered by nobody. */
const json = async <T>(url: string) => (await (await fetch(url, { headers: { connection: "close" }, signal: AbortSignal.timeout(3_000) })).json()) as T;
const lives = (pid: number) => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};
async function eventually(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (const until = performance.now() + 60_000; performance.now() < until; await sleep(systemClock, 50)) if (await holds().catch(() => false)) return;
  assert.fail(`${what}: not within 60 s`);
}

test("processes by role share one port and one store; each says who it is and shows the whole; one that dies is started again; SIGTERM drains all", async () => {
  using here = place();
  const { child, line, ended } = await here.start(["start", bookshopFile, "--processes", "web:2,worker:1", "--port", "0", "--json"]);
  const { url, processes } = JSON.parse(line) as Started;
  assert.deepEqual(
    processes.map(({ name }) => name),
    ["web.1", "web.2", "worker.1"],
  );

  if (process.platform === "linux") for (const { pid } of processes) assert.match(readFileSync(`/proc/${pid}/cmdline`, "utf8"), /\0--max-semi-space-size=8\0/);

  const answered = new Set<string>();
  for (let i = 0; i < 20; i++) answered.add((await json<{ process: string }>(`${url}/_trestle/health/ready`)).process);
  assert.deepEqual([...answered].sort(), ["web.1", "web.2"], "both answer, and the worker does not");
  const metrics = await (await fetch(`${url}/_trestle/metrics`)).text();
  for (const { name } of processes) assert.match(metrics, new RegExp(`^trestle_node_ready\\{process="${name}"\\} 1$`, "m"));
  const status = await json<Status>(`${url}/_trestle/status.json`);
  assert.deepEqual(
    status.processes.map(({ name, pid, phase }) => `${name} ${pid} ${phase}`),
    processes.map(({ name, pid }) => `${name} ${pid} ready`),
  );
  assert.match(status.node.process, /^web\.[12]$/);

  for (const victim of processes) process.kill(victim.pid, "SIGKILL");
  await eventually("all are there again", async () => {
    const now = await json<Status>(`${url}/_trestle/status.json`);
    return now.processes.every(({ phase, restarts, pid }) => phase === "ready" && restarts === 1 && !processes.some((before) => before.pid === pid));
  });

  assert.match(await (await fetch(`${url}/_trestle/metrics`)).text(), /^trestle_process_restarts_total\{process="worker\.1"\} 1$/m);

  const pids = (await json<Status>(`${url}/_trestle/status.json`)).processes.map(({ pid }) => pid);
  child.kill("SIGTERM");
  const { code, err } = await ended;
  assert.equal(code, 0, err);
  assert.deepEqual(pids.filter(lives), []);
  assert.match(err, /web\.1 ended \(SIGKILL\); it is started again in 100 ms/);
});

/** What a process of the app does at a signal, besides. */
const besides = (script: string) => ({ NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(script)}` });

test("[RES-12] a process that lives and does nothing is noticed, killed and started again: one that is stopped, one whose event loop is stuck", async () => {
  using here = place();
  const { child, line, ended } = await here.start(["start", bookshopFile, "--processes", "web:2,worker:1", "--port", "0", "--json"], {
    ...besides('if (process.env.TRESTLE_PROCESS) process.on("SIGWINCH", () => { for (;;); });'),
    TRESTLE_SILENT_LOOKS: "8",
  });
  const { url, processes } = JSON.parse(line) as Started;
  const [, second, worker] = processes.map(({ pid }) => pid) as [number, number, number];
  const status = async () => (await json<Status>(`${url}/_trestle/status.json`)).processes;

  process.kill(second, "SIGSTOP");
  process.kill(worker, "SIGWINCH");
  await eventually("both are there again", async () => {
    const now = await status();
    return now.every(({ phase }) => phase === "ready") && now.map(({ restarts }) => restarts).join() === "0,1,1";
  });
  assert.deepEqual([second, worker].filter(lives), []);

  child.kill("SIGTERM");
  const { code, err } = await ended;
  assert.equal(code, 0, err);
  for (const name of ["web\\.2", "worker\\.1"])
    assert.match(
      err,
      new RegExp(`${name} has not answered for 8 looks, one a second: it is killed\n[^]*${name} ended \\(SIGKILL\\); it is started again in 100 ms`),
    );
});

test("[RES-12] a process that is busy for a while is left alone", async () => {
  using here = place();
  const over = join(here.folder, "over");
  const busy = `import { writeFileSync } from "node:fs"; if (process.env.TRESTLE_PROCESS) process.on("SIGUSR2", () => { const from = performance.now(); while (performance.now() - from < 4_000); writeFileSync(${JSON.stringify(over)}, ""); });`;
  const { child, line, ended } = await here.start(["start", bookshopFile, "--processes", "web:1,worker:1", "--port", "0", "--json"], besides(busy));
  const { url, processes } = JSON.parse(line) as Started;
  const status = async () => (await json<Status>(`${url}/_trestle/status.json`)).processes;

  process.kill(processes[1]?.pid as number, "SIGUSR2");
  await eventually("it was busy", async () => existsSync(over));
  await eventually("all answer", async () => (await status()).every(({ phase }) => phase === "ready"));
  assert.deepEqual(
    (await status()).map(({ pid }) => pid),
    processes.map(({ pid }) => pid),
    "four seconds are no thirty looks",
  );

  child.kill("SIGTERM");
  assert.equal((await ended).code, 0);
});

test("[RES-12] how long the first start takes is not bounded, and nobody is silent meanwhile; one that is started again and hangs before it is ready is killed and started once more", async () => {
  using here = place();
  const [waits, hang, hangs] = ["waits", "hang", "hangs"].map((name) => JSON.stringify(join(here.folder, name)));
  // The first process does nothing for 10 s while the second one starts.
  const script = `
    import { existsSync, writeFileSync } from "node:fs";
    const pause = (ms) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
    if (process.env.TRESTLE_PROCESS === "node.1") {
      const timer = setInterval(() => { if (existsSync(${waits})) { clearInterval(timer); pause(10_000); } }, 50).unref();
    } else if (process.env.TRESTLE_PROCESS === "node.2") {
      if (existsSync(${hang})) { writeFileSync(${hangs}, ""); for (;;) pause(1_000); }
      if (!existsSync(${waits})) { writeFileSync(${waits}, ""); pause(11_000); }
    }`;
  const { child, line, ended } = await here.start(["start", bookshopFile, "--processes", "2", "--port", "0", "--json"], {
    ...besides(script),
    TRESTLE_SILENT_LOOKS: "6",
    TRESTLE_START_LOOKS: "10",
  });
  const { url, processes } = JSON.parse(line) as Started;

  writeFileSync(join(here.folder, "hang"), "");
  process.kill(processes[1]?.pid as number, "SIGKILL");
  await eventually("it hangs", async () => existsSync(join(here.folder, "hangs")));
  rmSync(join(here.folder, "hang"));
  await eventually("it is there again", async () => {
    const [, second] = (await json<Status>(`${url}/_trestle/status.json`)).processes;
    return second?.phase === "ready" && second.restarts >= 2;
  });

  child.kill("SIGTERM");
  const { code, err } = await ended;
  assert.equal(code, 0, err);
  assert.match(err, /node\.2 has not become ready in 10 looks, one a second: it is killed/);
});

test("[RES-12] one that ends again and again is started later and later; what keeps it from living gone, it is there again", async () => {
  using here = place();
  const flag = join(here.folder, "ends");
  const ends = `import { existsSync } from "node:fs"; if (process.env.TRESTLE_PROCESS === "worker.1" && existsSync(${JSON.stringify(flag)})) process.exit(7);`;
  const { child, line, ended } = await here.start(["start", bookshopFile, "--processes", "web:1,worker:1", "--port", "0", "--json"], besides(ends));
  const { url, processes } = JSON.parse(line) as Started;
  const worker = async () => (await json<Status>(`${url}/_trestle/status.json`)).processes[1];

  writeFileSync(flag, "");
  process.kill(processes[1]?.pid as number, "SIGKILL");
  await eventually("it has ended five times", async () => ((await worker())?.restarts ?? 0) >= 5);
  rmSync(flag);
  await eventually("it is there again", async () => (await worker())?.phase === "ready");

  child.kill("SIGTERM");
  const { code, err } = await ended;
  assert.equal(code, 0, err);
  const pauses = [...err.matchAll(/worker\.1 ended \((?:SIGKILL|exit code 7)\); it is started again in (\d+) ms/g)].map(([, ms]) => Number(ms));
  assert.deepEqual(pauses.slice(0, 5), [100, 200, 400, 800, 1_600]);
});

test("a plan that cannot be is refused before anything starts; what keeps the first process from starting ends all with its exit code", async () => {
  using here = place();

  const bad = await here.run(["start", bookshopFile, "--processes", "mail:2"]);
  assert.equal(bad.code, 2);
  assert.match(bad.err, /processes\.bad-plan/);
  const memory = await here.run(["start", bookshopFile, "--processes", "2", "--store", "memory:"]);
  assert.equal(memory.code, 2);

  const failing = await here.run(["start", bookshopFile], { TRESTLE_PROCESSES: "2", TRESTLE_STORE: "sqlite:/dev/null/x.db" });
  assert.equal(failing.code, 3);
  assert.match(failing.err, /node\.1 \| store\.not-writable/);
});

test("a supervisor ends with the last of its processes, also when something of its own would go on", { timeout: 60_000 }, async () => {
  using here = place();
  // As node:cluster does, now and then, with a connection that was on its way to a process when that was killed.
  const goesOn = 'import cluster from "node:cluster"; if (cluster.isPrimary) setInterval(() => undefined, 1_000);';
  const { child, ended } = await here.start(["start", bookshopFile, "--processes", "web:1", "--port", "0", "--json"], {
    NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(goesOn)}`,
  });
  child.kill("SIGTERM");

  assert.equal((await ended).code, 0);
});
