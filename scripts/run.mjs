/** `node scripts/run.mjs <file> [arguments]`: sets up what is missing, then runs a file of this repository with the pinned Node. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { become, command, root, setUp, SetupError } from "./setup.mjs";

const [file, ...args] = process.argv.slice(2);
await command(() => {
  if (file === undefined || !existsSync(join(root, file)))
    throw new SetupError(`scripts/run.mjs needs a file of this repository, got ${JSON.stringify(file)}.`);
  setUp();
  become(join(root, file), args);
});
