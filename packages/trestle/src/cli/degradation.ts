/** `trestle degradation ls | hold | release`: on which rung the routes of an app stand, and holding one there by hand, in every process of the app. */
import { heldIn, holdIn, openStoreAt, type DegradationView, type RouteView } from "../app/index.ts";
import { rungs, type Rung } from "../degradation/index.ts";
import { Fault, systemClock, systemRandom, uuidv7Ids } from "../kernel/index.ts";
import type { Store } from "../store/index.ts";
import { textOption, type CommandSpec, type Given } from "./command-line.ts";
import { exitCodes, type ExitCode } from "./exit-codes.ts";
import { asking, placeOf, targetOptions, type Place } from "./queue-target.ts";
import { table } from "./table.ts";

export const degradationCommands: readonly CommandSpec[] = [
  {
    name: "degradation ls",
    summary: "Lists the routes that have a policy, with the rung each stands on and why; without a running node, those that are held.",
    arguments: [],
    options: targetOptions,
    examples: ["trestle degradation ls"],
  },
  {
    name: "degradation hold",
    summary: "Holds a route on a rung in every process of the app, whatever its triggers say.",
    arguments: ["<route>", "<rung>"],
    options: targetOptions,
    examples: ["trestle degradation hold shop.catalogue static"],
  },
  {
    name: "degradation release",
    summary: "Lets a held route go: from then on its triggers decide.",
    arguments: ["<route>"],
    options: targetOptions,
    examples: ["trestle degradation release shop.catalogue"],
  },
];

export async function runDegradation(given: Given, command: CommandSpec): Promise<ExitCode> {
  const [route, rung] = given.positionals;
  if (rung !== undefined && !isRung(rung))
    throw Fault.create(
      "cli.bad-option",
      `<rung> must be one of ${rungs.join(", ")}, got ${JSON.stringify(rung)}`,
      "Run `trestle degradation ls` to see which a route has.",
    );
  const asJson = Boolean(given.values["json"]);
  const place = await placeOf({ url: textOption(given, "url"), store: textOption(given, "store") }, (text) => void process.stderr.write(`${text}\n`));
  if (command.name === "degradation ls") return place.kind === "node" ? listOf(place.url, asJson) : listHeld(place, asJson);
  if (place.kind === "node") await asking(place.url).ask("degradation/hold", { route, ...(rung !== undefined && { rung }) });
  else await within(place, (store) => holdIn(store, uuidv7Ids(systemClock, systemRandom), route as string, rung));
  const told = rung === undefined ? `${route} is released` : `${route} is held on ${rung}`;
  process.stdout.write(asJson ? `${JSON.stringify({ version: 1, route, rung: rung ?? null })}\n` : `${told}\n`);
  return exitCodes.ok;
}

function isRung(text: string): text is Rung {
  return rungs.some((rung) => rung === text);
}

async function listOf(url: string, asJson: boolean): Promise<ExitCode> {
  const { degradation = { routes: [] } } = await asking(url).ask<{ degradation?: DegradationView }>("status.json");
  if (asJson) process.stdout.write(`${JSON.stringify({ version: 1, ...degradation })}\n`);
  else if (degradation.routes.length === 0) process.stdout.write("no route has a policy\n");
  else
    process.stdout.write(
      table(
        ["route", "rung", "for", "mode", "held", "why"],
        degradation.routes.map(({ route, rung, processes, forMs, mode, held, why }) => [
          route,
          rungIn(rung, processes),
          `${Math.round(forMs / 1_000)} s`,
          mode,
          held ?? "",
          why,
        ]),
      ),
    );
  return exitCodes.ok;
}

/** With how many of the processes stand there, when not all do. */
function rungIn(rung: Rung, processes: RouteView["processes"] = {}): string {
  const all = Object.values(processes).reduce((sum, count) => sum + count, 0);
  const there = processes[rung] ?? 0;
  return there === all ? rung : `${rung} (${there} of ${all} processes)`;
}

async function listHeld(place: Extract<Place, { readonly kind: "store" }>, asJson: boolean): Promise<ExitCode> {
  const held = Object.entries(await within(place, heldIn));
  if (asJson) process.stdout.write(`${JSON.stringify({ version: 1, routes: held.map(([route, rung]) => ({ route, rung, held: "by hand" })) })}\n`);
  else process.stdout.write(held.length === 0 ? "no route is held\n" : table(["route", "held on"], held));
  return exitCodes.ok;
}

async function within<T>({ url }: { readonly url: string }, work: (store: Store) => Promise<T>): Promise<T> {
  const store = await openStoreAt(url, { clock: systemClock, random: systemRandom });
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}
