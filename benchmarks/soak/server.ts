/** The process under soak: `server.ts <store url>`. Tells its parent its URL, and what it holds whenever it is asked. */
import { start } from "trestle";
import soak from "./app.ts";

const node = await start(soak, { store: process.argv[2] as "memory:", port: 0, host: "127.0.0.1", log: () => undefined });
process.on("message", () => {
  const { rss, heapUsed, external } = process.memoryUsage();
  process.send?.({ rssMb: rss / 1_048_576, heapMb: heapUsed / 1_048_576, externalMb: external / 1_048_576 });
});
process.on("disconnect", () => void node.stop().then(() => process.exit(0)));
process.send?.({ url: node.url.replace("localhost", "127.0.0.1") });
