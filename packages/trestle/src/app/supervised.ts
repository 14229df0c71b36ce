/** A process that a supervisor started (processes.ts), and what the two say to each other over the channel between them. */
/** What processes and supervisor say to each other. */
export type Up =
  | { readonly trestle: "ready"; readonly url: string }
  | { readonly trestle: "ask"; readonly id: number }
  | { readonly trestle: "told"; readonly id: number; readonly value: unknown }
  | { readonly trestle: "alive" };
export type Down =
  | { readonly trestle: "alive?" }
  | { readonly trestle: "tell"; readonly id: number }
  | { readonly trestle: "whole"; readonly id: number; readonly parts: readonly Part[] };

/** What one process said, or that it did not. */
export interface Part {
  readonly name: string;
  readonly pid: number;
  readonly role: string | undefined;
  readonly restarts: number;
  readonly value: unknown;
}

export interface Supervised {
  /** `web.1`. */
  readonly name: string;
  /** Where the others listen already: one that starts again comes back to it. */
  readonly port: number | undefined;
  ready(url: string): void;
  /** What this process says of itself when another one asks; plain data. */
  tells(value: () => Promise<unknown>): void;
  /** Nothing of it runs any more: the process may end. Until then the supervisor keeps it alive. */
  over(): void;
  /** What all say, this one included. */
  whole(): Promise<readonly Part[]>;
}

let own: Supervised | undefined;

/** `undefined` in a process that nobody supervises. */
export function supervised(): Supervised | undefined {
  const name = process.env["TRESTLE_PROCESS"];
  if (own || name === undefined || !process.send) return own;
  delete process.env["TRESTLE_PROCESS"]; // what this process starts is not supervised
  let tells: () => Promise<unknown> = () => Promise.resolve(undefined);
  let asked = 0;
  const waiting = new Map<number, (parts: readonly Part[]) => void>();
  const say = (message: Up) => void process.send?.(message, undefined, undefined, () => undefined);
  process.on("message", (message: Down) => {
    if (message.trestle === "alive?") say({ trestle: "alive" });
    else if (message.trestle === "tell")
      tells().then(
        (value) => say({ trestle: "told", id: message.id, value }),
        () => undefined, // it said nothing
      );
    else if (message.trestle === "whole") {
      waiting.get(message.id)?.(message.parts);
      waiting.delete(message.id);
    }
  });
  const port = process.env["TRESTLE_PROCESS_PORT"];
  own = {
    name,
    port: port === undefined ? undefined : Number(port),
    ready: (url) => say({ trestle: "ready", url }),
    over: () => process.channel?.unref(),
    tells: (value) => void (tells = value),
    whole: () =>
      new Promise((resolve) => {
        const id = ++asked;
        waiting.set(id, resolve);
        say({ trestle: "ask", id });
      }),
  };
  return own;
}
