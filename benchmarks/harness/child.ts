/** One measurement in a process of its own: `child.ts <module> <load> <seconds> <scratch>`. */
import { pathToFileURL } from "node:url";
import type { Variant } from "./benchmark.ts";

const [module, load, seconds, scratch] = process.argv.slice(2) as [string, string, string, string];
const { default: variant } = (await import(pathToFileURL(module).href)) as { readonly default: Variant };
const measured = await variant({ load: Number(load), seconds: Number(seconds), scratch });
process.send?.(measured, () => process.exit(0));
