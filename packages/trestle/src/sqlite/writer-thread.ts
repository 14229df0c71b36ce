/**
 * The writer thread of a process: its seat at the file behind a message port. Questions to its own lane are answered in the order they come; nothing here waits
 * for the main thread, so a blocked event loop there delays neither a batch under way, nor the time limit of a transaction, nor other processes.
 */
import { parentPort } from "node:worker_threads";
import { systemClock, systemRandom } from "../kernel/index.ts";
import type { HeartbeatOptions } from "../store/index.ts";
import type { Place, ToSeat } from "./client.ts";
import type { Durability } from "./connection.ts";
import { startHeartbeat } from "./heartbeats.ts";
import { toFailure, type Failure } from "./operation.ts";
import type { Answer, Question } from "./questions.ts";
import { Seat } from "./seat.ts";
import type { Notice } from "./writer.ts";

export type FromThread =
  | Answer
  | Notice
  | { readonly place: Place }
  /** What keeps the file from being opened; the last message. */
  | { readonly unopened: Failure }
  /** The last message; `why` it could not be closed as it should. */
  | { readonly closed: true; readonly why?: Failure };
/** The first message is `open`, the last one `close`. Those that are no questions are not answered. */
export type ToThread =
  | { readonly ask: "open"; readonly path: string; readonly durability: Durability; readonly session: string }
  | Question
  | ToSeat
  | { readonly ask: "close" }
  | { readonly ask: "heartbeat"; readonly id: number; readonly options: HeartbeatOptions }
  | { readonly ask: "stopHeartbeat"; readonly id: number };

const port = parentPort as NonNullable<typeof parentPort>;

function say(message: FromThread): void {
  port.postMessage(message, "packed" in message ? [message.packed.bytes] : []);
}

let seat: Seat | undefined;
// Listens from the first: an open port is what keeps a thread alive while it waits for its file, and looks for a writer.
const heartbeats = new Map<number, () => void>();
port.on("message", (message: ToThread) => {
  if (message.ask === "open") return void open(message);
  if (!seat) throw new Error(`asked to ${message.ask} before it was asked to open`);
  if (message.ask === "heartbeat") return void heartbeats.set(message.id, startHeartbeat(message.options, { seat, clock: systemClock, notice: say }));
  if (message.ask === "stopHeartbeat") {
    heartbeats.get(message.id)?.();
    return void heartbeats.delete(message.id);
  }
  if (message.ask !== "close") return seat.ask(message);
  for (const stop of heartbeats.values()) stop();
  try {
    seat.close();
    say({ closed: true });
  } catch (error) {
    say({ closed: true, why: toFailure(error) });
  }
  port.close();
});

async function open({ path, durability, session }: ToThread & { readonly ask: "open" }): Promise<void> {
  seat = new Seat({ path, durability, session, clock: systemClock, random: systemRandom, say });
  try {
    await seat.open();
  } catch (error) {
    say({ unopened: toFailure(error) });
    port.close();
  }
}
