/**
 * `npm test`: sets up what is missing, then checks types, lint and format and runs every test file, each in a process of its
 * own under the pinned Node's test runner. Runs on Node 20 with nothing installed. Exit code 1 when anything failed or nothing was found.
 *
 * Side by side first: as many at once as there are cores, and one more, because live files mostly wait (for leases, timeouts, servers that
 * start). Every second lane prefers live files, so that they wait while the others compute. A live file that bounds or compares times which a busy
 * neighbour would spoil says `Runs alone: <why>` in its header, and has the machine to itself at the end.
 *
 *     npm test                          everything
 *     npm test -- queue sqlite/         files whose path contains one of these
 *     npm test -- --no-live             without the live tests (they are then not counted)
 *     npm test -- --json                the results on stdout; the summary goes to stderr
 *
 * stdout ends with one line `N passed, N failed, N skipped`; the reasons of the skips stand before it. The results are kept in
 * `.cache/test-results.json`; a run of some files replaces the results of those files only.
 *
 * A file also fails when it holds no test, ends before its tests did, does not end, leaves processes behind, or skips without a reason.
 */
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { chromium, command, environment, pinnedNode, root, setUp } from "./setup.mjs";
import { isLive, testFiles } from "./sources.mjs";

const options = process.argv.slice(2).filter((argument) => argument.startsWith("--"));
const wanted = process.argv.slice(2).filter((argument) => !argument.startsWith("--"));
const asJson = options.includes("--json");
const resultsFile = join(root, ".cache", "test-results.json");
const limitMs = { check: 300_000, test: 180_000, live: 900_000 };
const terminal = process.stderr.isTTY && !process.env.CI;

const running = new Map();
const finished = [];
let interrupted = false;

await command(main);

async function main() {
  const unknown = options.find((option) => !["--json", "--no-live"].includes(option));
  if (unknown) {
    process.stderr.write(`npm test: options are --json and --no-live, got ${unknown}\n`);
    process.exitCode = 64;
    return;
  }
  setUp();
  const jobs = plan();
  if (!jobs.some((job) => job.kind !== "check")) {
    process.stderr.write(wanted.length > 0 ? `No test file's path contains ${wanted.join(" or ")}.\n` : "No test file was found.\n");
    if (jobs.length === 0 || wanted.length === 0) {
      process.stdout.write("0 passed, 1 failed, 0 skipped\n");
      process.exitCode = 1;
      return;
    }
  }
  const scratch = mkdtempSync(join(tmpdir(), "trestle-test-"));
  const env = testEnvironment(jobs);
  const startedAt = Date.now();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => interrupt());
  const stopProgress = showProgress(jobs, startedAt);
  try {
    await inLanes(
      jobs.filter((job) => !job.alone),
      Math.min(availableParallelism(), 8) + 1,
      (job, lane) => run(job, scratch, { ...env, TRESTLE_TEST_LANE: String(lane) }),
    );
    await inLanes(
      jobs.filter((job) => job.alone),
      1,
      (job) => run(job, scratch, env),
    );
  } finally {
    stopProgress();
    rmSync(scratch, { recursive: true, force: true });
  }
  conclude(startedAt, jobs.length);
}

/** The jobs of this run: three checks and the test files, those that took longest first; where nobody knows, those that run whole systems. */
function plan() {
  const bin = (name) => join(root, "node_modules", ".bin", name);
  const checks = [
    { name: "typecheck", argv: [bin("tsc"), "-p", "tsconfig.json"], replay: "npm run typecheck" },
    { name: "lint", argv: [bin("oxlint"), "--type-aware", "--deny-warnings"], replay: "npm run lint" },
    { name: "format", argv: [bin("prettier"), "--check", "--log-level=warn", "."], replay: "npm run format" },
  ].map((check) => ({ ...check, kind: "check" }));
  const files = testFiles()
    .filter((path) => !(options.includes("--no-live") && isLive(path)))
    .map((path) => ({ name: path, kind: isLive(path) ? "live" : "test", alone: isLive(path) && runsAlone(path), replay: `npm test -- ${path}` }));
  const before = existsSync(resultsFile) ? JSON.parse(readFileSync(resultsFile, "utf8")).files : {};
  const took = (job) => before[job.name]?.durationMs ?? (job.name.startsWith("packages/") ? 0 : 1);
  return [...checks, ...files].filter((job) => wanted.length === 0 || wanted.some((text) => job.name.includes(text))).sort((a, b) => took(b) - took(a));
}

/** In a comment of its own lines, so that a test may write it in a string. */
function runsAlone(path) {
  return /^(?:\/\/|\/\*\*| \*) Runs alone: \S/m.test(readFileSync(join(root, path), "utf8"));
}

// Tests that need a browser read CHROMIUM and skip with a reason where it is not set.
function testEnvironment(jobs) {
  const needsBrowser = jobs.some((job) => job.kind !== "check" && readFileSync(join(root, job.name), "utf8").includes("CHROMIUM"));
  const path = needsBrowser ? chromium({ install: true }) : undefined;
  const env = environment(path === undefined ? {} : { CHROMIUM: path });
  // Paths and options of the npm that started us are not the business of a test that starts npm itself.
  for (const name of Object.keys(env)) if (/^npm_(config|package|lifecycle)_/i.test(name) && !/registry|cache/i.test(name)) delete env[name];
  return env;
}

/** Lanes 0, 2, 4… take live files as long as there are any, the others anything else; then each takes what is left. */
async function inLanes(jobs, width, work) {
  const queue = [...jobs];
  const next = (lane) => {
    const preferred = queue.findIndex((job) => (job.kind === "live") === (lane % 2 === 0));
    return queue.splice(Math.max(0, preferred), 1)[0];
  };
  const lane = async (_, number) => {
    for (let job = next(number); job && !interrupted; job = next(number)) await work(job, number);
  };
  await Promise.all(Array.from({ length: width }, lane));
}

/** Runs one job to its end, whatever that is, and files its result. */
async function run(job, scratch, env) {
  const fromMs = Date.now();
  const events = join(scratch, `${finished.length}-${running.size}-${fromMs}.ndjson`);
  const reporter = join(root, "scripts", "test-reporter.mjs");
  const argv =
    job.kind === "check"
      ? job.argv
      : [pinnedNode(), "--disable-warning=ExperimentalWarning", `--test-reporter=${reporter}`, "--test-reporter-destination=stdout", join(root, job.name)];
  // A process group of its own: whatever the file starts can be found and ended with it.
  const child = spawn(argv[0], argv.slice(1), { cwd: root, env: { ...env, TRESTLE_TEST_EVENTS: events }, stdio: ["ignore", "pipe", "pipe"], detached: true });
  const output = [];
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => output.push(chunk));
  running.set(job, { child, events, fromMs });
  let overdue = false;
  const alarm = setTimeout(() => {
    overdue = true;
    endGroup(child.pid);
  }, limitMs[job.kind]);
  const ended = await new Promise((resolve) => {
    child.on("error", (error) => resolve({ text: `could not be started: ${error.message}` }));
    // "exit", not "close": a process left behind may hold the pipes open for ever.
    child.on("exit", (code, signal) => resolve({ code, text: signal ? `was ended by ${signal}` : `exit code ${code}` }));
  });
  clearTimeout(alarm);
  const left = child.pid === undefined || overdue ? [] : await leftBehind(child.pid);
  await new Promise((resolve) => setTimeout(resolve, 5));
  running.delete(job);
  const durationMs = Date.now() - fromMs;
  const text = Buffer.concat(output).toString("utf8");
  const tests =
    job.kind === "check"
      ? [{ name: job.name, status: ended.code === 0 ? "passed" : "failed", durationMs, error: ended.code === 0 ? undefined : ended.text }]
      : verdicts(readEvents(events), ended, overdue, job, left);
  finished.push({ job, ranAt: fromMs, durationMs, tests, output: text });
  for (const test of tests) if (test.status === "failed" && !interrupted) say(`✗ ${job.name} › ${test.name}`);
}

/** The results of one file from its events: [{ name, status, durationMs, reason?, error? }], with what is wrong with the file itself at the end. */
function verdicts(events, ended, overdue, job, left) {
  const tests = [];
  const path = [];
  const open = new Map();
  const notes = [];
  for (const event of events) {
    if (event.type === "test:dequeue") open.set(`${event.nesting} ${event.name}`, event.name);
    if (event.type === "test:start") {
      path.length = event.nesting;
      path.push(event.name);
    }
    if (event.type === "test:diagnostic") notes.push(event.message);
    if (event.type !== "test:pass" && event.type !== "test:fail") continue;
    path.length = event.nesting;
    open.delete(`${event.nesting} ${event.name}`);
    const failed = event.type === "test:fail";
    if (event.kind === "suite" && (!failed || event.inside)) continue;
    const test = { name: [...path, event.name].join(" › "), status: "passed", durationMs: Math.round(event.durationMs * 10) / 10, line: event.line };
    path.push(event.name);
    if (event.todo !== undefined) tests.push({ ...test, status: "failed", error: "is marked todo: write it or delete it" });
    else if (event.skip === true || event.skip === "")
      tests.push({ ...test, status: "failed", error: "is skipped without a reason: pass the reason as `skip`" });
    else if (event.skip !== undefined && event.skip !== false) tests.push({ ...test, status: "skipped", reason: event.skip });
    else if (failed && event.inside)
      continue; // the test inside it has been counted
    else tests.push(failed ? { ...test, status: "failed", error: event.error } : test);
  }
  const wrong = (error) => tests.push({ name: "(the file)", status: "failed", durationMs: 0, error: [error, ...notes].join("\n") });
  const complete = events.some((event) => event.type === "test:summary");
  if (overdue)
    wrong(`did not end within ${limitMs[job.kind] / 1000} s; running then: ${[...open.values()].join(", ") || "nothing (an open handle keeps it alive)"}`);
  else if (!complete)
    wrong(events.length === 0 && ended.code === 0 ? "holds no test, or ended before its tests did" : `ended before its tests did: ${ended.text}`);
  else if (ended.code !== 0 && !tests.some((test) => test.status === "failed")) wrong(ended.text);
  else if (tests.length === 0) wrong("holds no test");
  if (left.length > 0) wrong(`left processes running: ${left.join(", ")}`);
  return tests;
}

function readEvents(path) {
  if (!existsSync(path)) return [];
  const lines = readFileSync(path, "utf8").split("\n");
  lines.pop(); // empty, or cut off
  return lines.map((line) => JSON.parse(line));
}

/** Ends what is left of a job's process group and says what it was. Two seconds of grace: children may be on their way out. */
async function leftBehind(group) {
  for (let tries = 0; tries < 20; tries++) {
    if (members(group).length === 0) return [];
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const left = members(group);
  endGroup(group);
  return left;
}

// A dead process whose parent does not collect it still counts for kill(2), so on Linux /proc is asked instead.
function members(group) {
  if (!existsSync("/proc/self/stat")) {
    try {
      process.kill(-group, 0);
      return [`group ${group}`];
    } catch {
      return [];
    }
  }
  const found = [];
  for (const pid of readdirSync("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      const [state, , itsGroup] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      if (Number(itsGroup) === group && state !== "Z")
        found.push(`${pid} ${readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim().slice(0, 200)}`);
    } catch {
      // It ended while we looked.
    }
  }
  return found;
}

function endGroup(group) {
  try {
    process.kill(-group, "SIGKILL");
  } catch {
    // Already gone.
  }
}

function interrupt() {
  interrupted = true;
  for (const { child } of running.values()) if (child.pid !== undefined) endGroup(child.pid);
}

function count(status) {
  return finished.reduce((sum, { tests }) => sum + tests.filter((test) => test.status === status).length, 0);
}

/** A line that stays. */
function say(text) {
  process.stderr.write(terminal ? `\r\u001b[2K${text}\n` : `${text}\n`);
}

/** One line that is rewritten in a terminal, a line every ten seconds elsewhere. Returns how to stop it. */
function showProgress(jobs, startedAt) {
  const draw = () => {
    const now = Date.now();
    const names = [...running].map(([job, { fromMs }]) => `${job.name.split("/").slice(-2).join("/")} ${Math.round((now - fromMs) / 1000)} s`).join(", ");
    const line = `[${Math.round((now - startedAt) / 1000)} s] ${finished.length}/${jobs.length} files, ${count("passed")} passed, ${count("failed")} failed: ${names}`;
    if (terminal) process.stderr.write(`\r\u001b[2K${line.slice(0, (process.stderr.columns || 100) - 1)}`);
    else process.stderr.write(`${line}\n`);
  };
  const timer = setInterval(draw, terminal ? 100 : 10_000);
  return () => {
    clearInterval(timer);
    if (terminal) process.stderr.write("\r\u001b[2K");
  };
}

/** Failures in full, reasons of skips, the results file, the summary line, the exit code. */
function conclude(startedAt, planned) {
  for (const { job, tests, output } of finished) {
    const failures = tests.filter((test) => test.status === "failed");
    if (failures.length === 0) continue;
    for (const test of failures) process.stderr.write(`\n✗ ${job.name}${test.line ? `:${test.line}` : ""} › ${test.name}\n${indent(test.error ?? "")}\n`);
    if (output.trim() !== "") process.stderr.write(`  it printed:\n${indent(tail(output.trim(), 200), "  │ ")}\n`);
    process.stderr.write(`  replay: ${job.replay}\n`);
  }
  const files = Object.fromEntries(finished.map(({ job, ranAt, durationMs, tests }) => [job.name, { ranAt, durationMs, tests }]));
  if (!interrupted) keep(files);
  const out = asJson ? process.stderr : process.stdout;
  const reasons = new Map();
  for (const { job, tests } of finished)
    for (const test of tests) if (test.status === "skipped") reasons.set(test.reason, [...(reasons.get(test.reason) ?? []), `${job.name} › ${test.name}`]);
  out.write("\n");
  for (const [reason, names] of reasons) out.write(`skipped ${names.length}, ${reason}:\n${names.map((name) => `  ${name}\n`).join("")}`);
  if (interrupted) out.write(`interrupted: ${planned - finished.length} of ${planned} files did not run\n`);
  if (asJson)
    process.stdout.write(
      `${JSON.stringify({ passed: count("passed"), failed: count("failed"), skipped: count("skipped"), durationMs: Date.now() - startedAt, interrupted, files }, null, 2)}\n`,
    );
  out.write(`${count("passed")} passed, ${count("failed")} failed, ${count("skipped")} skipped\n`);
  process.exitCode = interrupted ? 130 : count("failed") > 0 ? 1 : 0;
}

/** Merges these results into the kept ones and drops those of files that are gone. */
function keep(files) {
  const before = existsSync(resultsFile) ? JSON.parse(readFileSync(resultsFile, "utf8")).files : {};
  const known = new Set([...testFiles(), "typecheck", "lint", "format"]);
  const all = Object.fromEntries(
    Object.entries({ ...before, ...files })
      .filter(([name]) => known.has(name))
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );
  mkdirSync(join(root, ".cache"), { recursive: true });
  writeFileSync(resultsFile, `${JSON.stringify({ version: 1, finishedAt: Date.now(), files: all }, null, 1)}\n`);
}

function indent(text, by = "  ") {
  return text
    .split("\n")
    .map((line) => by + line)
    .join("\n");
}

function tail(text, lines) {
  const all = text.split("\n");
  return all.length <= lines ? text : [`… ${all.length - lines} lines before`, ...all.slice(-lines)].join("\n");
}
