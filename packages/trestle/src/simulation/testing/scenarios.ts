/** The scenarios of this folder. */
import { readdirSync } from "node:fs";
import { isSimulation, type Simulation } from "../index.ts";

const folder = new URL("./", import.meta.url);
/** Their files, in order of their names. */
export const scenarioFiles: readonly string[] = readdirSync(folder)
  .filter((name) => name.endsWith(".simulation.ts"))
  .sort();

/** What a file exports, by name and in order of names. A file is one of this folder, or a URL. */
export async function scenariosOf(file: string | URL): Promise<readonly (readonly [string, Simulation])[]> {
  const exported = Object.entries((await import(new URL(file, folder).href)) as Readonly<Record<string, unknown>>);
  return exported.filter((entry): entry is [string, Simulation] => isSimulation(entry[1]));
}
