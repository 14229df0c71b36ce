/** A dependency as a process: `dependency.ts <trouble> <start, of the wall clock>`. It works by waiting, so that what it can do is not what this machine can do; it gives up what nobody waits for. */
import { createServer } from "node:http";
import { takesMs, type Trouble } from "./trouble.ts";

const [trouble, startMs] = [process.argv[2] as Trouble, Number(process.argv[3])];
let active = 0;
let asked = 0;

const server = createServer((request, response) => {
  if (request.url === "/asked") return void response.end(String(asked));
  asked++;
  const ms = takesMs(trouble, Date.now() - startMs, active, Math.random());
  if (ms === undefined) return;
  active++;
  let over = false;
  const end = () => {
    if (over) return;
    over = true;
    active--;
  };
  const timer = setTimeout(() => {
    end();
    response.end("{}");
  }, ms);
  request.on("close", () => {
    if (response.writableEnded) return;
    clearTimeout(timer);
    end();
  });
  response.on("close", end);
});
server.keepAliveTimeout = 60_000;
server.listen(0, "127.0.0.1", () => process.stdout.write(`${(server.address() as { readonly port: number }).port}\n`));
process.stdin.on("close", () => process.exit(0)).resume();
