/** What is at the end of a storm: serves one after the other, also those whose callers have gone, as what knows no deadlines does. For ten seconds it takes ten times as long. */
import { createServer } from "node:http";

const startMs = Number(process.argv[2]);
let asked = 0;
let freeMs = 0;
const server = createServer((request, response) => {
  if (request.url === "/asked") return void response.end(String(asked));
  asked++;
  const nowMs = Math.max(0, Date.now() - startMs);
  const beginsMs = Math.max(freeMs, nowMs);
  freeMs = beginsMs + (beginsMs >= 6_000 && beginsMs < 16_000 ? 250 : 25);
  setTimeout(() => response.end("{}"), Math.max(1, freeMs - nowMs));
});
server.keepAliveTimeout = 60_000;
server.listen(0, "127.0.0.1", () => process.stdout.write(`${(server.address() as { readonly port: number }).port}\n`));
process.stdin.on("close", () => process.exit(0)).resume();
