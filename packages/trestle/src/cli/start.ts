/**
 * `trestle start <app.ts>`: runs an app until it is told to end. SIGTERM: no new work, finish what is there, exit 0. Ctrl-C: the same, exit 130;
 * a second signal ends it at once.
 */
import { processPlan, start, supervise, supervised, type App, type StartOptions } from "../app/index.ts";
import { Fault } from "../kernel/index.ts";
import { numberOption, textOption, type CommandSpec, type Given } from "./command-line.ts";
import { exitCodes, type ExitCode } from "./exit-codes.ts";
import { loadApp } from "./load-app.ts";

export const startCommand: CommandSpec = {
  name: "start",
  summary: "Runs an app. Prints its URL to stdout when it is ready; logs go to stderr.",
  arguments: ["<app.ts>"],
  options: {
    port: { type: "string", value: "number", help: "where to listen; default PORT, else any free port" },
    host: { type: "string", value: "name", help: "for whom; default HOST, else localhost: this machine only" },
    store: { type: "string", value: "url", help: "sqlite:<path>, postgres://… or memory:; default TRESTLE_STORE, else sqlite:.trestle/<app>.db" },
    roles: { type: "string", value: "a,b", help: "run only the components of these roles; default all" },
    processes: { type: "string", value: "plan", help: "4, or by role web:2,worker:2; default TRESTLE_PROCESSES, else this one process" },
    json: { type: "boolean", help: "print {app, url, console, pid} instead of the URL; with --processes also {processes: [{name, pid}]}" },
  },
  examples: [
    "trestle start app.ts --port 3000",
    "trestle start app.ts --roles worker --store sqlite:./data/shop.db",
    "trestle start app.ts --processes web:2,worker:2",
  ],
};

const drainWithin = "15s";

export async function runStart(given: Given): Promise<ExitCode> {
  try {
    return await startHere(given);
  } finally {
    supervised()?.over(); // also when it never began
  }
}

async function startHere(given: Given): Promise<ExitCode> {
  const port = numberOption(given, "port", { least: 0, most: 65_535 });
  const host = textOption(given, "host");
  const store = textOption(given, "store");
  const roles = textOption(given, "roles")
    ?.split(",")
    .map((role) => role.trim());
  const app = await loadApp(given.positionals[0] as string);
  const known = [...new Set(app.graph.components.map(({ role }) => role))].filter((role) => role !== "any");
  const unknown = roles?.find((role) => !known.includes(role));
  if (unknown !== undefined)
    throw Fault.create(
      "cli.bad-option",
      `--roles must name roles of the app (${known.join(", ") || "it has none"}), got ${JSON.stringify(unknown)}`,
      "Leave --roles out to run everything.",
    );

  const plan = textOption(given, "processes") ?? process.env["TRESTLE_PROCESSES"];
  if (plan !== undefined && !supervised()) return startProcesses(app, plan, known, given);

  const ended = signalled();
  const options: StartOptions = {
    ...(port === undefined ? {} : { port }),
    ...(host === undefined ? {} : { host }),
    ...(store === undefined ? {} : { store: store as NonNullable<StartOptions["store"]> }),
    ...(roles ? { roles } : {}),
  };
  const node = await start(app, options);
  const address = node.url === "" ? undefined : node.url;
  if (supervised()) {
    // Whoever supervises it says that all are ready.
  } else if (given.values["json"])
    process.stdout.write(`${JSON.stringify({ app: app.name, url: address, console: address && `${address}/_trestle`, pid: process.pid })}\n`);
  else {
    if (address !== undefined) process.stdout.write(`${address}\n`);
    process.stderr.write(`${app.name} is running${address === undefined ? "; it serves nothing" : `, console at ${address}/_trestle`}. Ctrl-C ends it.\n`);
  }

  const signal = await ended;
  process.stderr.write(`${signal}: finishing what is there, at most ${drainWithin}\n`);
  try {
    await node.drain(drainWithin);
  } finally {
    await node.stop();
  }
  return signal === "SIGINT" ? exitCodes.interrupted : exitCodes.ok;
}

/** Several processes instead of this one. */
async function startProcesses(app: App, text: string, roles: readonly string[], given: Given): Promise<never> {
  const plan = processPlan(text, roles);
  const store = textOption(given, "store") ?? process.env["TRESTLE_STORE"];
  if (given.values["roles"] !== undefined)
    throw Fault.create("cli.bad-option", "--roles and --processes cannot be combined", "Name the roles in --processes: web:2,worker:2.");
  if (store === "memory:" || store === "sqlite::memory:")
    throw Fault.create("cli.bad-option", "--processes needs a store that processes can share, and memory: is one process's own", "Use sqlite:<path>.");
  const port = numberOption(given, "port", { least: 0, most: 65_535 }) ?? (Number(process.env["PORT"]) || 0);
  const code = await supervise({
    plan,
    port,
    onReady(url, processes) {
      const address = url === "" ? undefined : url;
      if (given.values["json"])
        process.stdout.write(`${JSON.stringify({ app: app.name, url: address, console: address && `${address}/_trestle`, pid: process.pid, processes })}\n`);
      else {
        if (address !== undefined) process.stdout.write(`${address}\n`);
        process.stderr.write(`${app.name} is running as ${processes.map(({ name, pid }) => `${name} (${pid})`).join(", ")}. Ctrl-C ends it.\n`);
      }
    },
  });
  // Not by running out of work: node:cluster keeps a connection that was on its way to a process when that was killed, and this process with it.
  process.exit(code);
}

/** Resolves at the first signal; the second ends the process. Listens from now on, so that a signal while starting is not lost. */
function signalled(): Promise<"SIGINT" | "SIGTERM"> {
  return new Promise((resolve) => {
    let seen = false;
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      process.on(signal, () => {
        // A terminal's Ctrl-C reaches this process and its supervisor, which passes it on: not a second one.
        if (seen && supervised()) return;
        if (seen) process.exit(signal === "SIGINT" ? exitCodes.interrupted : 143);
        seen = true;
        resolve(signal);
      });
    }
  });
}
