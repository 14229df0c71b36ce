/**
 * The writer thread of a process: its seat at the file behind a message port. Messages are answered in the order they come; nothing here waits
 * for the main thread, so a blocked event loop there delays neither a batch under way, nor the time limit of a transaction, nor other processes.
 */
import { parentPort } from "node:worker_threads";
import { systemClock, systemRandom } from "../kernel/index.ts";
import type { Durability } from "./connection.ts";
import { failed, type Answer, type Question } from "./questions.ts";
import { Seat } from "./seat.ts";
import { startHeartbeat } from "./heartbeats.ts";
import type { HeartbeatOptions } from "../store/index.ts";
import type { Notice } from "./writer.ts";

/** The first question is `open`, answered with the epoch; the last one `close`. */
export type FromThread = Answer | { readonly opened: number } | { readonly closed: true } | Notice;
export type ToThread =
  | { readonly ask: "open"; readonly path: string; readonly durability: Durability }
  | Question
  | { readonly ask: "close" }
  /** Not answered. */
  | { readonly ask: "heartbeat"; readonly id: number; readonly options: HeartbeatOptions }
  | { readonly ask: "stopHeartbeat"; readonly id: number };

const port = parentPort as NonNullable<typeof parentPort>;

function say(message: FromThread): void {
  port.postMessage(message, "packed" in message ? [message.packed.bytes] : []);
}

let seat: Seat | undefined;
// Listens from the first: an open port is what keeps a thread alive while it waits for its file, and looks for a writer.
const heartbeats = new Map<number, () => void>();
port.on("message", (question: ToThread) => {
  if (question.ask === "open") return void open(question.path, question.durability);
  if (!seat) throw new Error(`asked to ${question.ask} before it was asked to open`);
  if (question.ask === "heartbeat") return void heartbeats.set(question.id, startHeartbeat(question.options, { seat, clock: systemClock, notice: say }));
  if (question.ask === "stopHeartbeat") {
    heartbeats.get(question.id)?.();
    return void heartbeats.delete(question.id);
  }
  if (question.ask !== "close") return seat.ask(question);
  for (const stop of heartbeats.values()) stop();
  try {
    seat.close();
    say({ closed: true });
  } catch (error) {
    say(failed(error));
  }
  port.close();
});

async function open(path: string, durability: Durability): Promise<void> {
  seat = new Seat({ path, durability, clock: systemClock, random: systemRandom, answer: say, notice: say });
  try {
    say({ opened: await seat.open() });
  } catch (error) {
    say(failed(error));
    port.close();
  }
}
