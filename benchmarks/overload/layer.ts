/** One layer of a storm, as a process: `layer.ts <url of the next> <with|without> <its timeout in ms>`. It asks the next layer for each request, as one that knows nothing of the others. */
import { createServer } from "node:http";
import { guardedFetch } from "trestle/adapters";
import { breaker, budget, pipeline, retry, timeout } from "trestle/resilience";

const [next, budgets, timeoutMs] = [process.argv[2] as string, process.argv[3] === "with", Number(process.argv[4])];
const retries = { attempts: 3, from: 50, upTo: 500 } as const;
const guard = budgets
  ? pipeline(retry({ ...retries, budget: budget({ share: "10%", floor: "1/s", burst: 10 }) }), timeout(timeoutMs), breaker({ cooldown: "1s", window: "5s" }))
  : pipeline(retry(retries), timeout(timeoutMs));
const ask = guardedFetch(guard, { tellsContext: false });
let asked = 0;
const server = createServer((request, response) => {
  if (request.url === "/asked") return void response.end(String(asked));
  asked++;
  ask(next).then(
    async (answer) => {
      await answer.text();
      response.writeHead(answer.status).end("{}");
    },
    () => response.writeHead(503).end(),
  );
});
server.keepAliveTimeout = 60_000;
server.listen(0, "127.0.0.1", () => process.stdout.write(`${(server.address() as { readonly port: number }).port}\n`));
process.stdin.on("close", () => process.exit(0)).resume();
