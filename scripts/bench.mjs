/** `npm run bench -- <subject> [arguments]`: runs `benchmarks/<subject>/bench.ts` with the pinned Node. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { become, command, root, setUp } from "./setup.mjs";

const folder = join(root, "benchmarks");
// benchmarks/harness is what the subjects share.
const subjects = existsSync(folder) ? readdirSync(folder).filter((name) => name !== "harness" && existsSync(join(folder, name, "bench.ts"))) : [];
const [subject, ...args] = process.argv.slice(2);

await command(() => {
  if (subject === undefined || !subjects.includes(subject)) {
    process.stderr.write(
      `npm run bench -- <subject>: the subject must be one of ${subjects.join(", ") || "(there are none yet)"}, got ${JSON.stringify(subject)}.\n`,
    );
    process.exitCode = 64;
    return;
  }
  setUp();
  become(join(folder, subject, "bench.ts"), args);
});
