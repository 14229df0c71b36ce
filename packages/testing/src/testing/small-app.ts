/** A process for the tests of processes: it listens on PORT, answers what SAYS holds, and ends with exit code 7 when asked to. */
import { spawn } from "node:child_process";
import { createServer } from "node:http";

if (process.env["BROKEN"]) {
  process.stderr.write(`${process.env["BROKEN"]}\n`);
  process.exit(3);
}
if (process.env["WITH_CHILD"]) process.stdout.write(`child ${spawn("sleep", ["60"], { stdio: "ignore", detached: true }).pid}\n`);
process.on("SIGTERM", () => {
  if (!process.env["DEAF"]) process.exit(7);
});
createServer((_, answer) => answer.end(process.env["SAYS"] ?? "")).listen(Number(process.env["PORT"]), () => process.stdout.write("listens\n"));
