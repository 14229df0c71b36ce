/**
 * Equal hashes: `npm run hashes` writes hashes.json, what the first seeds of each scenario come to, as events and trace hash. A test holds every run to
 * that list, on whatever machine and Node it runs: what the seed does not decide shows as another hash.
 *
 * A change of the simulator, of a scenario or of the code under it may change every hash: then the list is written again, in the commit of that change.
 * `--check` compares instead and says where they differ, with exit code 1; `--trace file/scenario/seed` prints each event of one seed as a line.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { search } from "../index.ts";
import { scenarioFiles, scenariosOf } from "./scenarios.ts";

/** By file, scenario and seed: `"1432 events, 9f2c01ab"`. */
export type Hashes = Readonly<Record<string, Readonly<Record<string, Readonly<Record<string, string>>>>>>;

const here = dirname(fileURLToPath(import.meta.url));
const root = resolve(here, "../../../../..");
const listed = join(here, "hashes.json");
const seeds: readonly string[] = ["0x1", "0x2"];

/** Below the root: this folder's scenarios, and the shop. */
const files = ["examples/shop/shop.simulation.ts", ...scenarioFiles.map((name) => `packages/trestle/src/simulation/testing/${name}`)];

/** What they come to now. Throws what breaks: a seed that fails has no hash to keep. */
export async function hashesNow(): Promise<Hashes> {
  const hashes: Record<string, Record<string, Record<string, string>>> = {};
  for (const file of files) {
    const ofFile: Record<string, Record<string, string>> = (hashes[file] = {});
    for (const [name, { app, scenario }] of await scenariosOf(pathToFileURL(join(root, file)))) {
      const ofScenario: Record<string, string> = (ofFile[name] = {});
      const { broken } = await search(app, scenario, { seeds, onSeed: ({ seed, events, hash }) => void (ofScenario[seed] = `${events} events, ${hash}`) });
      if (broken) throw broken;
    }
  }
  return hashes;
}

export const hashesListed = (): Hashes => JSON.parse(readFileSync(listed, "utf8")) as Hashes;

/** `file/scenario/seed: listed, and now`: in both directions. */
export function differences(before: Hashes, now: Hashes): string[] {
  const flat = (hashes: Hashes): Map<string, string> =>
    new Map(
      Object.entries(hashes).flatMap(([file, ofFile]) =>
        Object.entries(ofFile).flatMap(([name, ofScenario]) => Object.entries(ofScenario).map(([seed, hash]) => [`${file}/${name}/${seed}`, hash] as const)),
      ),
    );
  const [one, other] = [flat(before), flat(now)];
  return [...new Set([...one.keys(), ...other.keys()])]
    .filter((name) => one.get(name) !== other.get(name))
    .map((name) => `${name}: ${one.get(name) ?? "not listed"}; now ${other.get(name) ?? "gone"}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({ options: { check: { type: "boolean" }, trace: { type: "string" } } });
  if (values.trace !== undefined) await printTrace(values.trace);
  else {
    const now = await hashesNow();
    if (values.check) {
      const different = differences(hashesListed(), now);
      for (const line of different) process.stdout.write(`${line}\n`);
      process.exitCode = different.length > 0 ? 1 : 0;
    } else writeFileSync(listed, `${JSON.stringify(now, undefined, 2)}\n`);
  }
}

async function printTrace(path: string): Promise<void> {
  const [, file, name, seed] = /^(.+)\/([^/]+)\/([^/]+)$/.exec(path) ?? [];
  const [, simulation] = (file === undefined ? [] : await scenariosOf(pathToFileURL(join(root, file)))).find(([one]) => one === name) ?? [];
  if (!simulation || seed === undefined) throw new Error(`--trace is file/scenario/seed, such as ${files[0]}/name/0x1, got ${path}`);
  const { app, scenario } = simulation;
  let lines: string[] = [];
  // The first seed is run twice; one run is printed.
  await search(app, scenario, {
    seeds: [seed],
    onEvent: ({ atMs, life, what }) => void lines.push(`${atMs} ${life} ${what}\n`),
    onSeed: () => {
      process.stdout.write(lines.join(""));
      lines = [];
    },
  });
}
