/** A test process as the tests of the guard need one: it starts a PostgreSQL, says where, and then waits, ends or throws when told to. */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { postgres } from "../postgres.ts";

const server = await postgres();
const segment = /\d+$/.exec(readFileSync(`${server.home}/data/postmaster.pid`, "utf8").split("\n")[6]?.trim() ?? "")?.[0];
process.stdout.write(`${JSON.stringify({ home: server.home, pid: server.pid, url: server.url, segment })}\n`);
const [told] = (await once(process.stdin, "data")) as [Buffer];
if (String(told).startsWith("pause")) {
  await server.pause();
  process.kill(process.pid, "SIGKILL");
}
if (process.argv[2] === "throws") throw new Error("as asked");
process.exit(0);
