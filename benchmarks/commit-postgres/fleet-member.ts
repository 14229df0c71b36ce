/** One process of the fleet: measures its callers, and says so. */
import { measureCallers } from "../harness/callers.ts";
import { work, type Kind } from "./work.ts";

const [kind, url, load, seconds] = process.argv.slice(2);
const one = await work(kind as Kind, url as string);
const measured = await measureCallers(Number(load), Number(seconds), () => one.once());
process.send?.(measured, () => void one.close().then(() => process.disconnect()));
