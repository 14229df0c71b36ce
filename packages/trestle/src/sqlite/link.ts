/** A connection to the writer of another process. It is new, `open` after the welcome, and ended once: by the other side, by silence, or by `close`. */
import { createConnection, type Socket } from "node:net";
import type { Clock, Timer } from "../kernel/index.ts";
import type { Change } from "../store/index.ts";
import { FrameReader, frameOf } from "./frames.ts";
import { thrownOf, wireVersion, type Answer, type FromWriter, type Hello, type Question, type ToWriter } from "./questions.ts";
import type { WriterNote } from "./writer-note.ts";

/** A writer that owes a welcome or an answer is asked now and then whether it lives; so often unheard, it is taken for stopped. */
const lookEveryMs = 250;
const lookIdlyEveryMs = 1_000;
const unheardMax = 4;
/** Of a socket that somebody had, whose process has gone, or takes nobody in any more (its backlog is full: it was stopped long ago). */
const nobodyThere: ReadonlySet<string | undefined> = new Set(["ECONNREFUSED", "ECONNRESET", "EPIPE", "EAGAIN"]);

export interface LinkEvents {
  answer(answer: Answer): void;
  change(change: Change): void;
  /** `silent`: it does not answer, though its end of the connection is there. */
  ended(how: "gone" | "silent"): void;
}

export interface Link {
  readonly epoch: number;
  /** `false` when the question is too large to be sent. */
  ask(question: Question): boolean;
  /** Says goodbye: what this process holds goes back to its queues. */
  close(): void;
  /** Ends the connection without a word. */
  drop(): void;
}

/** `undefined`: nobody listens there; `absent`: this process cannot reach such a socket; `silent`: somebody listens, and says nothing. Throws the writer's refusal. */
export function connect(
  note: WriterNote,
  hello: Omit<Hello, "hello">,
  clock: Clock,
  events: LinkEvents,
  isAsking: () => boolean,
): Promise<Link | "silent" | "absent" | undefined> {
  return new Promise((resolve, reject) => {
    const socket: Socket = createConnection(note.socket as string);
    // Whoever waits for an answer keeps its process alive; a connection does not.
    socket.unref();
    let state: "new" | "open" | "over" = "new";
    let heard = true;
    let unheard = 0;
    let idly = false;
    let look: Timer | undefined;

    function end(how: "gone" | "absent" | "silent" | "closed"): void {
      if (state === "over") return;
      const before = state;
      state = "over";
      look?.cancel();
      socket.destroy();
      if (before === "new") resolve(how === "silent" || how === "absent" ? how : undefined);
      else if (how !== "closed") events.ended(how === "silent" ? "silent" : "gone");
    }
    /** So that its jobs go back at once. */
    function sayGoodbye(): void {
      if (state !== "open") return end("closed");
      state = "over";
      look?.cancel();
      socket.end(frameOf({ bye: true }) as Buffer);
    }
    function send(message: ToWriter): boolean {
      const frame = frameOf(message);
      if (frame) socket.write(frame);
      return frame !== undefined;
    }
    // Looks are counted, not time: a process that was stopped or busy itself would take everybody for silent when it goes on.
    function lookForWelcome(): void {
      look = clock.after(lookEveryMs, () => (++unheard >= unheardMax ? end("silent") : lookForWelcome()));
    }
    function lookAround(): void {
      idly = !isAsking();
      look = clock.after(idly ? lookIdlyEveryMs : lookEveryMs, () => {
        if (heard) unheard = 0;
        else if (++unheard >= unheardMax) return end("silent");
        heard = false;
        send({ ping: true });
        lookAround();
      });
    }
    function ask(question: Question): boolean {
      const sent = send(question);
      if (idly) {
        look?.cancel();
        lookAround();
      }
      return sent;
    }

    const frames = new FrameReader((message) => {
      const said = message as FromWriter;
      heard = true;
      if (state === "new") {
        if (typeof said === "object" && said !== null && "welcome" in said) {
          state = "open";
          look?.cancel();
          unheard = 0;
          lookAround();
          return resolve({ epoch: said.welcome.epoch, ask, close: sayGoodbye, drop: () => end("closed") });
        }
        state = "over";
        look?.cancel();
        socket.destroy();
        return "failed" in said ? reject(thrownOf(said.failed)) : resolve(undefined);
      }
      if (state === "over" || "pong" in said) return;
      if ("change" in said) events.change(said.change);
      else events.answer(said as Answer);
    });
    socket.on("data", (chunk: Buffer) => {
      try {
        frames.push(chunk);
      } catch {
        end("gone"); // it is no writer of ours
      }
    });
    // Whatever else is in the way is this process's own: too many open files, a path that is too long from here.
    socket.on("error", ({ code }: NodeJS.ErrnoException) => end(state === "new" && !nobodyThere.has(code) ? "absent" : "gone"));
    socket.on("close", () => end("gone"));
    socket.write(Buffer.from(note.secret ?? "", "hex"));
    send({ ...hello, hello: wireVersion });
    lookForWelcome();
  });
}
