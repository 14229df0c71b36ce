/** `trestle queue ls | retry | redrive | edit | cancel | pause | resume`: what waits, what was kept for a person, and stopping a queue. */
import { jobStates, keptStates, whichJobs, type Acted, type JobFacts, type KeptState } from "../app/index.ts";
import { Fault, systemClock } from "../kernel/index.ts";
import type { JobState, QueueDepth } from "../store/index.ts";
import { numberOption, textOption, type CommandSpec, type Given } from "./command-line.ts";
import { exitCodes, type ExitCode } from "./exit-codes.ts";
import { queueTarget, targetOptions, type QueueTarget } from "./queue-target.ts";
import { table } from "./table.ts";

export const queueCommands: readonly CommandSpec[] = [
  {
    name: "queue ls",
    summary: "Lists queues with their depths; of one queue, its jobs.",
    arguments: ["[queue]"],
    options: {
      ...targetOptions,
      state: { type: "string", value: "state", help: `only jobs that are ${jobStates.join(", ")}` },
      limit: { type: "string", value: "number", help: "at most so many jobs, 1 to 1000; default 50" },
    },
    examples: ["trestle queue ls", "trestle queue ls mail --state dead"],
  },
  {
    name: "queue retry",
    summary: "Puts these kept jobs back to waiting, due now, attempts counted from 0.",
    arguments: ["[queue]"],
    options: { ...targetOptions, id: { type: "string", multiple: true, value: "job", help: "the job; can be given several times" } },
    examples: ["trestle queue retry mail --id 0192f7c1-…"],
  },
  {
    name: "queue redrive",
    summary: "Puts all kept jobs of one state back to waiting, due now, attempts counted from 0.",
    arguments: ["[queue]"],
    options: {
      ...targetOptions,
      state: { type: "string", value: "state", help: `${keptStates.join(", ")}; default dead` },
      "dry-run": { type: "boolean", help: "only say how many there are" },
    },
    examples: ["trestle queue redrive mail", "trestle queue redrive --state undetermined --dry-run"],
  },
  {
    name: "queue edit",
    summary: "Gives a dead or parked job another message and puts it back.",
    arguments: ["<queue>"],
    options: {
      ...targetOptions,
      id: { type: "string", multiple: true, value: "job", help: "the job" },
      message: { type: "string", value: "json", help: "the whole new message" },
    },
    examples: [`trestle queue edit mail --id 0192f7c1-… --message '{"to":"ada@example.com"}'`],
  },
  {
    name: "queue cancel",
    summary: "Removes these jobs; a running one is told, and not run again.",
    arguments: ["<queue>"],
    options: { ...targetOptions, id: { type: "string", multiple: true, value: "job", help: "the job; can be given several times" } },
    examples: ["trestle queue cancel mail --id 0192f7c1-…"],
  },
  {
    name: "queue pause",
    summary: "Begins nothing of this queue anywhere until it is resumed; what runs goes on.",
    arguments: ["<queue>"],
    options: targetOptions,
    examples: ["trestle queue pause mail"],
  },
  {
    name: "queue resume",
    summary: "Lets a paused queue go on.",
    arguments: ["<queue>"],
    options: targetOptions,
    examples: ["trestle queue resume mail"],
  },
];

export async function runQueue(given: Given, command: CommandSpec): Promise<ExitCode> {
  const queue = given.positionals[0];
  if (queue !== undefined && !/^~?[a-z][a-z0-9-]{0,80}$/.test(queue))
    throw Fault.create(
      "cli.bad-option",
      `[queue] must be the name of a queue ([a-z][a-z0-9-]*), got ${JSON.stringify(queue)}`,
      "Run `trestle queue ls` to see the names.",
    );
  const state = stateOption(given, command.name === "queue ls" ? jobStates : keptStates);
  const limit = numberOption(given, "limit", { least: 1, most: 1_000 }) ?? 50;
  const ids = (given.values["id"] ?? []) as readonly string[];
  if (["queue retry", "queue edit", "queue cancel"].includes(command.name)) {
    if (ids.length === 0)
      throw Fault.create(
        "cli.missing-argument",
        `trestle ${command.name} needs --id, at least once`,
        "Run `trestle queue ls <queue> --state dead` to see ids; `trestle queue redrive` puts back all.",
      );
    whichJobs({ ids }, { states: keptStates });
  }
  const message = command.name === "queue edit" ? messageOption(given, ids) : undefined;
  const asJson = Boolean(given.values["json"]);
  const target = await queueTarget({ url: textOption(given, "url"), store: textOption(given, "store") }, (text) => void process.stderr.write(`${text}\n`));
  try {
    switch (command.name) {
      case "queue ls":
        return await list(target, queue, state, limit, asJson);
      case "queue retry":
        return await retry(target, queue, ids, asJson);
      case "queue edit":
        await target.edit(queue as string, ids[0] as string, message);
        return told(asJson, { queue, jobs: 1 }, "1 edited and put back");
      case "queue cancel":
        return await cancel(target, queue as string, ids, asJson);
      case "queue pause":
      case "queue resume": {
        const paused = command.name === "queue pause";
        await target.pause(queue as string, paused);
        return told(asJson, { queue, paused }, `${queue} is ${paused ? "paused" : "resumed"}`);
      }
      default:
        return await redrive(target, queue, (state ?? "dead") as KeptState, Boolean(given.values["dry-run"]), asJson);
    }
  } finally {
    await target.close();
  }
}

function told(asJson: boolean, facts: object, text: string): ExitCode {
  process.stdout.write(asJson ? `${JSON.stringify({ version: 1, ...facts })}\n` : `${text}\n`);
  return exitCodes.ok;
}

function messageOption(given: Given, ids: readonly string[]): unknown {
  const text = textOption(given, "message");
  if (text === undefined || ids.length !== 1)
    throw Fault.create("cli.missing-argument", "trestle queue edit needs one --id and --message", "Give the whole new message as JSON.");
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw Fault.create("cli.bad-option", `--message must be JSON: ${(cause as Error).message}`, `Write --message '{"to":"ada@example.com"}', for example.`, {
      cause,
    });
  }
}

async function cancel(target: QueueTarget, queue: string, ids: readonly string[], asJson: boolean): Promise<ExitCode> {
  const { jobs, missing } = await target.cancel(queue, { ids });
  told(asJson, { queue, jobs, missing }, `${jobs} cancelled`);
  for (const id of missing) process.stderr.write(`not cancelled: ${id} is no job of ${queue}\n`);
  return missing.length === 0 ? exitCodes.ok : exitCodes.problem;
}

function stateOption(given: Given, states: readonly JobState[]): JobState | undefined {
  const text = textOption(given, "state");
  const known = states.find((state) => state === text);
  if (text === undefined || known !== undefined) return known;
  throw Fault.create(
    "cli.bad-option",
    `--state must be one of ${states.join(", ")}, got ${JSON.stringify(text)}`,
    `Write --state ${states.at(-1)}, for example.`,
  );
}

async function list(target: QueueTarget, queue: string | undefined, state: JobState | undefined, limit: number, asJson: boolean): Promise<ExitCode> {
  const depths = (await target.depths()).filter((depth) => queue === undefined || depth.queue === queue);
  if (queue === undefined && state === undefined) {
    process.stdout.write(asJson ? `${JSON.stringify({ version: 1, queues: depths })}\n` : depths.length === 0 ? "no jobs in any queue\n" : depthTable(depths));
    return exitCodes.ok;
  }
  const pages = await Promise.all(
    (queue === undefined ? depths.map((depth) => depth.queue) : [queue]).map((name) => target.jobs({ queue: name, limit, ...(state ? { state } : {}) })),
  );
  const jobs = pages.flat().slice(0, limit);
  const groups = queue === undefined || state !== undefined ? [] : await target.groups(queue);
  if (asJson) process.stdout.write(`${JSON.stringify({ version: 1, queues: depths, jobs, ...(groups.length > 0 ? { groups } : {}) })}\n`);
  else {
    process.stdout.write(jobs.length === 0 ? "no such jobs\n" : jobTable(jobs));
    if (groups.length > 0)
      process.stdout.write(
        `\n${table(
          ["tenant", "ready", "running"],
          groups.map(({ group, ready, running }) => [group, ready, running]),
        )}`,
      );
    if (depths[0]?.paused) process.stderr.write(`${queue} is paused\n`);
  }
  return exitCodes.ok;
}

async function retry(target: QueueTarget, queue: string | undefined, ids: readonly string[], asJson: boolean): Promise<ExitCode> {
  const queues = queue === undefined ? (await target.depths()).map((depth) => depth.queue) : [queue];
  const acted: Acted[] = [];
  let missing = [...new Set(ids)];
  for (const name of queues) {
    if (missing.length === 0) break;
    const one = await target.redrive(name, { ids: missing });
    missing = [...one.missing];
    if (one.jobs > 0) acted.push(one);
  }
  const jobs = acted.reduce((sum, one) => sum + one.jobs, 0);
  process.stdout.write(
    asJson
      ? `${JSON.stringify({ version: 1, jobs, queues: acted.map(({ queue: name, jobs: count }) => ({ queue: name, jobs: count })), missing })}\n`
      : `${jobs} put back\n`,
  );
  for (const id of missing) process.stderr.write(`not put back: ${id} is no dead, parked or undetermined job${queue === undefined ? "" : ` of ${queue}`}\n`);
  return missing.length === 0 ? exitCodes.ok : exitCodes.problem;
}

async function redrive(target: QueueTarget, queue: string | undefined, state: KeptState, dryRun: boolean, asJson: boolean): Promise<ExitCode> {
  const depths = (await target.depths()).filter((depth) => depth[state] > 0 && (queue === undefined || depth.queue === queue));
  const done: { readonly queue: string; readonly jobs: number }[] = [];
  for (const depth of depths) {
    let jobs = dryRun ? depth[state] : 0;
    for (let more = !dryRun; more;) {
      const acted = await target.redrive(depth.queue, { state });
      jobs += acted.jobs;
      more = acted.more;
      if (more) process.stderr.write(`${depth.queue}: ${jobs} so far\n`);
    }
    done.push({ queue: depth.queue, jobs });
  }
  const total = done.reduce((sum, { jobs }) => sum + jobs, 0);
  if (asJson) process.stdout.write(`${JSON.stringify({ version: 1, state, dryRun, jobs: total, queues: done })}\n`);
  else
    process.stdout.write(
      `${[...done.map(({ queue: name, jobs }) => `${name}: ${jobs}`), `${total} ${state} ${dryRun ? "would be put back" : "put back"}`].join("\n")}\n`,
    );
  return exitCodes.ok;
}

function depthTable(depths: readonly QueueDepth[]): string {
  return table(
    ["queue", "waiting", "running", "oldest due", "dead", "parked", "undetermined"],
    depths.map((depth) => [
      depth.paused ? `${depth.queue} (paused)` : depth.queue,
      depth.waiting,
      depth.running,
      depth.oldestAgeMs === 0 ? "-" : seconds(depth.oldestAgeMs),
      depth.dead,
      depth.parked,
      depth.undetermined,
    ]),
  );
}

function jobTable(jobs: readonly JobFacts[]): string {
  const nowMs = systemClock.wallMs();
  return table(
    ["id", "queue", "state", "attempt", "sent", "error"],
    jobs.map((job) => [
      job.id,
      job.queue,
      job.state,
      job.attempt,
      `${seconds(nowMs - job.sentAtMs)} ago`,
      (job.error ?? "").split("\n")[0]?.slice(0, 100) ?? "",
    ]),
  );
}

const seconds = (ms: number) =>
  ms < 120_000 ? `${Math.max(0, Math.round(ms / 1_000))} s` : ms < 7_200_000 ? `${Math.round(ms / 60_000)} min` : `${Math.round(ms / 3_600_000)} h`;
