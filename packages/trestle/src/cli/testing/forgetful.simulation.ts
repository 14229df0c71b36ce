/** Scenarios whose promise breaks in each seed: for tests of `trestle sim`. */
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { z } from "zod";
import { app, records } from "../../index.ts";
import { scenario, type Scenario } from "../../simulation/index.ts";

const notes = records("notes", { key: z.string(), value: z.int() });
const forgetting: Scenario<{ notes: typeof notes }> = {
  uses: { notes },
  nodes: 1,
  for: "5s",
  faults: {},
  clients: { count: 2, times: 2, each: async ({ notes }, chance) => void (await notes.put(chance.id(), 1)) },
  eventually: { "nothing was written down": async ({ notes }) => (await notes.list({ limit: 1 })).items.length === 0 },
};

/** Keeps its seeds in the folder that the command runs in. */
export const kept = scenario(app("forgetful", [notes]), { ...forgetting, regressions: pathToFileURL(resolve("kept.seeds.json")) });
export const unkept = scenario(app("forgetful", [notes]), forgetting);
