/**
 * The writer's door: a local socket through which other processes of this user reach the hub. Nothing of what comes is read before the
 * secret of the term has been shown (the first 32 bytes), so strangers get no further than that. One message each way then opens
 * the connection: `Hello`, answered by `Welcome` or a refusal. After that come questions and pings; answers, notices and pongs go back.
 *
 * Whoever tidies up directories may remove the socket's name while its writer lives: then it is bound again.
 *
 * A process that does not read what it is told is let go at `unreadBytesMax`: it comes again, and asks for what it missed. That is a bound for all of
 * them together, too: everybody hears the same notices, each of which is one frame for all, so what they leave unread is the end of one stream, and the longest
 * end holds the others. Each connection adds 40 bytes a notice (60 MiB of notices of 260 bytes: 71 MB for one that does not read, 91 for three), and
 * the answers it has asked for.
 */
import { timingSafeEqual } from "node:crypto";
import { chmodSync, existsSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { Fault, type Clock, type Timer } from "../kernel/index.ts";
import type { Change } from "../store/index.ts";
import type { Durability } from "./connection.ts";
import { FrameReader, frameOf } from "./frames.ts";
import type { Hub, Member } from "./hub.ts";
import { failed, wireVersion, type FromWriter, type Hello, type Question, type ToWriter } from "./questions.ts";

export const secretBytes = 32;
const helloWithinMs = 2_000;
/** So soon a socket whose name somebody removed has it again: sooner than those who look for it lose patience. */
const nameBackWithinMs = 500;
const unreadBytesMax = 64 * 1_048_576;

export interface Door {
  close(): void;
}
export interface DoorOptions {
  readonly socket: string;
  readonly secret: Buffer;
  readonly hub: Hub;
  readonly clock: Clock;
  readonly durability: Durability;
  readonly epoch: number;
}

export async function openDoor(options: DoorOptions): Promise<Door> {
  const visitors = new Set<Socket>();
  /** By name: who comes again leaves the old connection. */
  const seats = new Map<string, Seated>();
  /** One that lost its name goes on with whoever had come; closing it before the end would remove the name of the next one. */
  const servers: Server[] = [];
  const listen = async () => {
    const server = createServer((socket) => {
      visitors.add(socket);
      const leave = receive(socket, options, seats);
      socket.on("error", () => socket.destroy());
      socket.on("close", () => {
        visitors.delete(socket);
        leave();
      });
    });
    await listening(server, options.socket);
    servers.push(server);
  };
  await listen();
  let closed = false;
  let look: Timer;
  const lookAgain = () => {
    look = options.clock.after(nameBackWithinMs, () => {
      if (existsSync(options.socket)) return lookAgain();
      // Perhaps it was removed by a successor: then this closes the door, with the name.
      options.hub.check();
      const onwards = () => void (closed ? closeServers() : lookAgain());
      listen().then(onwards, onwards);
    });
  };
  const closeServers = () => {
    for (const server of servers.splice(0)) server.close();
  };
  lookAgain();
  return {
    close() {
      closed = true;
      look.cancel();
      closeServers();
      for (const socket of visitors) socket.destroy();
    },
  };
}

interface Seated {
  readonly name: string;
  readonly socket: Socket;
  readonly chair: ReturnType<Hub["join"]>;
}

/** Answers what to do when the connection has ended. */
function receive(socket: Socket, { secret, hub, clock, durability, epoch }: DoorOptions, seats: Map<string, Seated>): () => void {
  let seated: Seated | undefined;
  let shown = Buffer.alloc(0);
  const timer = clock.after(helloWithinMs, () => !seated && socket.destroy());
  const frames = new FrameReader((message) => {
    const said = message as ToWriter;
    if (seated) {
      if ("ping" in said) return send(socket, { pong: true });
      return "bye" in said ? hub.leave(seated.chair, "goodbye") : hub.ask(seated.chair, said as Question);
    }
    const hello = said as Hello;
    const refusal = refusalOf(hello, durability);
    if (refusal) {
      send(socket, failed(refusal));
      return void socket.destroySoon();
    }
    // The main thread of a process comes, and its writer thread.
    const name = `${hello.session}${hello.listens ? "" : " beats"}`;
    const before = seats.get(name);
    if (before) {
      hub.leave(before.chair, "comes-anew");
      before.socket.destroy();
    }
    seated = { name, socket, chair: hub.join(memberOver(socket, hello), hello.knows) };
    seats.set(name, seated);
    timer.cancel();
    send(socket, { welcome: { epoch } });
  });
  socket.on("data", (chunk: Buffer) => {
    try {
      const missing = secretBytes - shown.length;
      if (missing > 0) {
        shown = Buffer.concat([shown, chunk.subarray(0, missing)]);
        if (shown.length < secretBytes) return;
        if (!timingSafeEqual(shown, secret)) return void socket.destroy();
      }
      if (chunk.length > missing) frames.push(missing > 0 ? chunk.subarray(missing) : chunk);
    } catch {
      socket.destroy(); // no message of ours
    }
  });
  return () => {
    timer.cancel();
    if (!seated) return hub.check();
    if (seats.get(seated.name) !== seated) return;
    seats.delete(seated.name);
    hub.leave(seated.chair, "ended");
  };
}

function refusalOf(hello: Hello, durability: Durability): Fault | undefined {
  if (hello.hello !== wireVersion || typeof hello.session !== "string" || hello.session.includes("/"))
    return Fault.create(
      "store.version-differs",
      `the writer of this store speaks version ${wireVersion}, and this process ${JSON.stringify(hello.hello)}`,
      "Run one version of Trestle on one file; stop the processes of the old one first.",
    );
  if (hello.durability !== durability)
    return Fault.create(
      "store.open-differs",
      `the store is open with durability ${durability}, and was asked for with ${hello.durability}`,
      "Open one file with one durability.",
    );
  return undefined;
}

function memberOver(socket: Socket, { session, listens }: Hello): Member {
  return {
    session,
    listens,
    answer: (answer) => send(socket, answer),
    notice: (change) => send(socket, { change }, noticeFrame(change)),
  };
}

/** One for all who hear it. */
const noticeFrames = new WeakMap<Change, Buffer | undefined>();
function noticeFrame(change: Change): Buffer | undefined {
  if (!noticeFrames.has(change)) noticeFrames.set(change, frameOf({ change }));
  return noticeFrames.get(change);
}

function send(socket: Socket, message: FromWriter, made = frameOf(message)): void {
  if (socket.destroyed) return;
  const frame = made ?? frameOf(failed(Fault.create("sql.answer-too-large", "the answer has more than 64 MiB", "Ask for fewer rows.")));
  socket.write(frame as Buffer);
  if (socket.writableLength > unreadBytesMax) socket.destroy();
}

function listening(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, () => {
      server.off("error", reject);
      try {
        chmodSync(path, 0o600);
      } catch (error) {
        // Some shared mounts bind sockets, and know no mode of theirs.
        server.close();
        return reject(error as Error);
      }
      server.on("error", () => undefined); // out of file descriptors for a moment: whoever came, comes again
      resolve();
    });
  });
}
