/** The same server on the published form (`npm run build`): beside it stands what its imports find there after an installation. */
import { copyFileSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { published } from "../../scripts/build.mjs";
import type { Variant } from "../harness/benchmark.ts";
import { measureStarts } from "./started.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));

const variant: Variant = ({ scratch }) => {
  const installed = join(scratch, "node_modules", "trestle");
  mkdirSync(installed, { recursive: true });
  writeFileSync(join(scratch, "package.json"), JSON.stringify({ type: "module" }));
  writeFileSync(join(installed, "package.json"), JSON.stringify(published(JSON.parse(readFileSync(join(root, "packages/trestle/package.json"), "utf8")))));
  symlinkSync(join(root, "packages/trestle/dist"), join(installed, "dist"));
  symlinkSync(join(root, "node_modules/zod"), join(scratch, "node_modules", "zod"));
  const server = join(scratch, "server.ts");
  copyFileSync(fileURLToPath(new URL("./trestle-server.ts", import.meta.url)), server);
  return measureStarts(server, scratch);
};
export default variant;
