/**
 * The command line: finds the command, runs it, and turns how it ended into an exit code. Data goes to stdout, everything else to stderr; with
 * `--json` an error is one line of JSON on stderr, and stdout stays empty.
 */
import { readFileSync } from "node:fs";
import { Fault } from "../kernel/index.ts";
import { findCommand, helpOf, overview, parseCommand, type CommandSpec, type Given } from "./command-line.ts";
import { checkCommand, runCheck } from "./check.ts";
import { degradationCommands, runDegradation } from "./degradation.ts";
import { doctorCommand, runDoctor } from "./doctor.ts";
import { exitCodes, type ExitCode } from "./exit-codes.ts";
import { graphCommand, runGraph } from "./graph.ts";
import { moveCommand, runMove } from "./move.ts";
import { planCommand, runPlan } from "./plan.ts";
import { queueCommands, runQueue } from "./queue.ts";
import { runSim, simCommand } from "./sim.ts";
import { runStart, startCommand } from "./start.ts";

type Run = (given: Given, command: CommandSpec) => Promise<ExitCode>;

const commands = new Map<CommandSpec, Run>([
  [startCommand, runStart],
  [graphCommand, runGraph],
  ...queueCommands.map((command) => [command, runQueue] as const),
  [checkCommand, runCheck],
  ...degradationCommands.map((command) => [command, runDegradation] as const),
  [planCommand, runPlan],
  [moveCommand, runMove],
  [simCommand, runSim],
  [doctorCommand, runDoctor],
]);

/** Runs one command to its end and sets `process.exitCode`. */
export async function main(argv: readonly string[]): Promise<void> {
  // Whoever reads stdout may have seen enough (`trestle graph app.ts | head`).
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(exitCodes.ok);
    throw error;
  });
  process.exitCode = await run(argv);
}

async function run(argv: readonly string[]): Promise<ExitCode> {
  const known = [...commands.keys()];
  if (argv.length === 0 || argv[0] === "help" || argv[0] === "--help" || argv[0] === "-h") {
    const about = argv.slice(1).filter((word) => !word.startsWith("-"));
    if (argv[0] !== "help" || about.length === 0) {
      (argv.length === 0 ? process.stderr : process.stdout).write(overview(known));
      return argv.length === 0 ? exitCodes.usage : exitCodes.ok;
    }
    return run([...about, "--help"]);
  }
  if (argv[0] === "--version") {
    process.stdout.write(`${version()}\n`);
    return exitCodes.ok;
  }
  const asJson = argv.includes("--json");
  try {
    const { command, rest } = findCommand(known, argv);
    const given = parseCommand(command, rest);
    if (given.values["help"]) {
      process.stdout.write(helpOf(command));
      return exitCodes.ok;
    }
    return await (commands.get(command) as Run)(given, command);
  } catch (thrown) {
    tell(thrown, asJson);
    return codeOf(thrown);
  }
}

function tell(thrown: unknown, asJson: boolean): void {
  if (asJson) {
    const { code, message, remedy } = Fault.is(thrown)
      ? thrown
      : { code: "cli.unexpected", message: thrown instanceof Error ? thrown.message : String(thrown), remedy: undefined };
    process.stderr.write(`${JSON.stringify({ error: { code, message, ...(remedy === undefined ? {} : { remedy }) } })}\n`);
    return;
  }
  if (!Fault.is(thrown)) {
    process.stderr.write(`${thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown)}\n`);
    return;
  }
  process.stderr.write(`${thrown.code}: ${thrown.message}\n${thrown.remedy}\n`);
  if (thrown.code === "cli.app-not-loaded" && thrown.cause instanceof Error) process.stderr.write(`\n${thrown.cause.stack}\n`);
}

const environmentCodes = new Set([
  "http.port-in-use",
  "http.port-not-allowed",
  "http.cannot-listen",
  "store.not-writable",
  "store.network-file-system",
  "store.disk-full",
]);
const usageCodes = new Set([
  "http.bad-port",
  "store.url-unknown",
  "log.bad-level",
  "queue.bad-selection",
  "processes.bad-plan",
  "cli.unknown-command",
  "cli.unknown-option",
  "cli.bad-option",
  "cli.missing-argument",
  "cli.too-many-arguments",
  "cli.no-such-file",
  "cli.not-an-app",
  "cli.which-store",
  "degradation.no-file",
]);

function codeOf(thrown: unknown): ExitCode {
  if (!Fault.is(thrown)) return exitCodes.problem;
  if (usageCodes.has(thrown.code)) return exitCodes.usage;
  if (environmentCodes.has(thrown.code)) return exitCodes.environment;
  return thrown.code.startsWith("store.") || thrown.code.startsWith("cli.node-") ? exitCodes.unreachable : exitCodes.problem;
}

function version(): string {
  return (JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as { version: string }).version;
}
