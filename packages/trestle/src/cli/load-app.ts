/** The app in a file: its default export, or the one export that is an app. Importing it declares; nothing is started. */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import type { App } from "../app/index.ts";
import { Fault } from "../kernel/index.ts";

/** Faults: `cli.no-such-file`, `cli.not-an-app`, `cli.app-not-loaded`. */
export async function loadApp(file: string): Promise<App> {
  const path = resolve(file);
  if (!existsSync(path))
    throw Fault.create("cli.no-such-file", `<app.ts> must be a file, and there is none at ${path}`, "Name the file whose default export is your app.");
  let exported: Readonly<Record<string, unknown>>;
  try {
    exported = (await import(pathToFileURL(path).href)) as Readonly<Record<string, unknown>>;
  } catch (cause) {
    if (Fault.is(cause)) throw cause;
    throw Fault.create(
      "cli.app-not-loaded",
      `${file} could not be loaded: ${cause instanceof Error ? cause.message : String(cause)}`,
      "Mend the file; its stack trace is below.",
      { cause },
    );
  }
  const found = isApp(exported["default"]) ? [exported["default"]] : Object.values(exported).filter(isApp);
  if (found.length === 1) return found[0] as App;
  throw Fault.create(
    "cli.not-an-app",
    `${file} must export an app: its default export, or one export that is an app; it has ${found.length === 0 ? "none" : `${found.length}`} (exports: ${Object.keys(exported).join(", ") || "nothing"})`,
    'Write `export default app("name", [...])`.',
  );
}

function isApp(value: unknown): value is App {
  return typeof value === "object" && value !== null && typeof (value as App).name === "string" && "graph" in value && "components" in value;
}
