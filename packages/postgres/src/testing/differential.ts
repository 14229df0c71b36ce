/**
 * The model of PostgreSQL that the simulator has, held to the server: the same random schedules of three sessions to both. Whatever the server shows the model
 * must allow.
 *
 * The full size, whose result is kept; the defaults are those of the test:
 *
 *     npm run differential -- --schedules 20000 --into benchmarks/results/postgres-model.json
 *
 * `--schedule <seed>` runs one, and prints what happened.
 */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { postgres } from "@trestle/testing";
import { describeStep, PostgresModel, type Look } from "trestle/simulation/postgres-model";
import { drawSchedule, sessionNames, type Schedule } from "./schedules.ts";
import { watchedSessions, type WatchedSessions } from "./watched-sessions.ts";

export interface Differential {
  readonly seed: string;
  readonly schedules: number;
  readonly steps: number;
  /** Steps at which the server had a choice, and states of the model at most. */
  readonly choices: number;
  readonly statesMax: number;
  /** How often the server showed it: a wait, an answer to one, and each SQLSTATE. */
  readonly shown: Readonly<Record<string, number>>;
  /** Empty when the model allowed everything. */
  readonly problems: readonly string[];
}

export interface DifferentialOptions {
  readonly seed: string;
  readonly schedules: number;
  /** So many schedules at a time, each on a table of its own. Default 4. */
  readonly lanes?: number;
  /** These and no others. */
  readonly only?: readonly string[];
  /** Told what happened in each. */
  readonly onTrace?: (schedule: Schedule, lines: readonly string[]) => void;
}

/** It shall not fill a screen. */
const problemsMax = 5;

export async function differential({ seed, schedules, lanes = 4, only, onTrace }: DifferentialOptions): Promise<Differential> {
  // Nothing here is about the disk; and a deadlock is to be found at once.
  await using server = await postgres({ settings: { fsync: false, synchronous_commit: false, deadlock_timeout: "10ms", autovacuum: false } });
  const queue = only ? [...only] : Array.from({ length: schedules }, (_, at) => `${seed}/${at + 1}`);
  const total = queue.length;
  const counted = { steps: 0, choices: 0, statesMax: 0 };
  const shown: Record<string, number> = {};
  const problems: string[] = [];
  await Promise.all(
    Array.from({ length: Math.min(lanes, total) }, async (_, lane) => {
      await using sessions = await watchedSessions({ url: server.url, names: sessionNames, table: `rows_${lane}` });
      for (let next = queue.shift(); next !== undefined && problems.length < problemsMax; next = queue.shift()) {
        const schedule = drawSchedule(next);
        const lines: string[] = [];
        const problem = await follow(schedule, sessions, {
          onStep(line, look, model) {
            lines.push(line);
            counted.steps++;
            if (model.choices > 1) counted.choices++;
            counted.statesMax = Math.max(counted.statesMax, model.states);
            for (const what of whatIsShown(look)) shown[what] = (shown[what] ?? 0) + 1;
          },
        });
        onTrace?.(schedule, lines);
        if (problem !== undefined) problems.push([`schedule ${next}, rows ${JSON.stringify(schedule.rows)}`, ...lines, problem].join("\n  "));
      }
    }),
  );
  return { seed, schedules: total - queue.length, ...counted, shown, problems };
}

interface Watching {
  readonly onStep: (line: string, look: Look, model: PostgresModel) => void;
}

async function follow({ rows, scripts, turn }: Schedule, sessions: WatchedSessions, { onStep }: Watching): Promise<string | undefined> {
  await sessions.reset(rows);
  const model = new PostgresModel(rows);
  const left = new Map(Object.entries(scripts).map(([name, script]) => [name, [...script]]));
  for (;;) {
    const ready = [...left].filter(([name, script]) => script.length > 0 && !sessions.waits(name));
    if (ready.length === 0) return undefined;
    const [name, script] = ready[Math.floor(turn() * ready.length)] as (typeof ready)[number];
    // Of what follows an error only the end is worth a look, and now and then what stands before it.
    while (sessions.failed(name) && script[0]?.kind !== "commit" && script[0]?.kind !== "rollback" && turn() < 0.8) script.shift();
    const step = script.shift();
    if (step === undefined) continue;
    const look = await sessions.step(name, step);
    const problem = model.saw(name, step, look);
    onStep(`${name}: ${describeStep(step)}  →  ${look}`, look, model);
    if (problem !== undefined) return problem;
  }
}

function whatIsShown(look: Look): readonly string[] {
  const parts = look.split("; ");
  const answers = parts.filter((part) => part.includes(": "));
  return [
    ...answers.flatMap((part) => /error (\w+)$/.exec(part)?.[1] ?? []),
    ...parts.filter((part) => part.endsWith(" waits")).map(() => "waiting"),
    // One step, several answers: somebody waited for what the step did.
    ...answers.slice(1).map(() => "answer after a wait"),
  ];
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      schedules: { type: "string", default: "300" },
      seed: { type: "string", default: String(Date.now() % 1_000_000) },
      lanes: { type: "string", default: "4" },
      schedule: { type: "string" },
      into: { type: "string" },
    },
  });
  const fromMs = performance.now();
  const found = await differential({
    seed: values.seed,
    schedules: Number(values.schedules),
    lanes: Number(values.lanes),
    ...(values.schedule !== undefined && {
      only: [values.schedule],
      onTrace: ({ rows }, lines) => process.stdout.write(`${[JSON.stringify(rows), ...lines].join("\n")}\n`),
    }),
  });
  const result = {
    subject: "postgres-model",
    command: `npm run differential -- --schedules ${values.schedules} --seed ${values.seed}`,
    ...found,
    seconds: Math.round((performance.now() - fromMs) / 1_000),
  };
  const text = `${JSON.stringify(result, undefined, 1)}\n`;
  if (values.into !== undefined) writeFileSync(values.into, text);
  process.stdout.write(text);
  process.exitCode = found.problems.length > 0 ? 1 : 0;
}
