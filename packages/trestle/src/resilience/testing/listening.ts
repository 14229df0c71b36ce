/** A server that answers as a test says, and knows who asked and which sockets are open. It ends with the test. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { TestContext } from "node:test";

export type Answer = (request: IncomingMessage, response: ServerResponse, nth: number) => void;

export interface Listening {
  readonly origin: string;
  /** Its root. */
  readonly url: string;
  readonly asked: IncomingMessage[];
  readonly sockets: Set<Socket>;
}

export async function listening(t: TestContext, answer: Answer): Promise<Listening> {
  const asked: IncomingMessage[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((request, response) => {
    request.resume();
    asked.push(request);
    answer(request, response, asked.length);
  });
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { origin, url: `${origin}/`, asked, sockets };
}
