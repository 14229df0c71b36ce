/** A contender's process: `child.ts <contender> <where as JSON>`. Tells its parent when it serves. */
import type { Serve, Where } from "./endpoint.ts";

const [name, where] = process.argv.slice(2) as [string, string];
const { default: serve } = (await import(new URL(`./${name}.ts`, import.meta.url).href)) as { readonly default: Serve };
process.on("disconnect", () => process.exit(0));
await serve(JSON.parse(where) as Where);
process.send?.("serving");
