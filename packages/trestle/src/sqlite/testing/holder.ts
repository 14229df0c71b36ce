/** A process that opens a store and keeps it: `node holder.ts <file>`. Says `open` or the fault's code on stdout. */
import { writeSync } from "node:fs";
import { MessageChannel } from "node:worker_threads";
import { Fault } from "../../kernel/index.ts";
import { openSqlite } from "../index.ts";

try {
  const store = await openSqlite({ path: process.argv[2] as string });
  writeSync(1, "open\n");
  process.on("SIGTERM", () => void store.close().then(() => process.exit(0)));
  // An idle store keeps no process alive; an open port does.
  new MessageChannel().port1.on("message", () => undefined);
} catch (error) {
  writeSync(1, `${Fault.is(error) ? `${error.code} ${error.message}` : String(error)}\n`);
}
