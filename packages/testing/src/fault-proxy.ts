/**
 * A TCP proxy that breaks the network between a client and a server, while connections are open. Pure node:net; nothing of the
 * system is touched, so it needs no rights and two tests never disturb each other.
 *
 * Each connection is two lanes, `up` (client to server) and `down`. A lane reads from its source into a queue of at most 1 MiB, and
 * sends from the queue when the faults in force let it: the end and the reset of a connection travel in the queue as bytes do, so a
 * partition holds them back too. Faults are in force together, until `heal`:
 *
 *     latency     every piece arrives that much later, plus a part of the jitter drawn from the seed; order is kept
 *     bandwidth   so many bytes a second, each lane by itself
 *     partition   nothing passes; what waits passes after heal, as TCP sends again what was lost. New connections wait too
 *     blackHole   accepts and swallows: what it swallowed is gone, so heal resets the connections it swallowed from
 *     halfOpen    one side is reset, the other is not told: it may talk into nothing until heal, and is reset then
 *     refuse      new connections are refused; open ones stay
 *     cutAfter    after so many bytes from now on a connection is reset on both sides; the bytes before arrive
 *     reset       both sides of every open connection are reset, once
 *
 * Not what a network does: the kernel here has acknowledged what waits or was swallowed, so a sender's own retransmission never times
 * out; and a client whose server refuses is accepted first and reset then.
 */
import { createServer, connect, type Server, type Socket } from "node:net";
import { Fault, seededRandom, systemClock, systemRandom, type Random, type Timer } from "trestle/kernel";
import { freePort } from "./free-port.ts";

/** `up`: from client to server. */
export type Direction = "up" | "down" | "both";

/** A URL with host and port, or both. */
export type Target = string | { readonly host?: string; readonly port: number };

export interface FaultProxyOptions {
  readonly to: Target;
  /** Draws the jitter. Default: by chance; `proxy.seed` tells it. */
  readonly seed?: number;
}

export interface FaultProxy extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  /** The target's URL with the proxy's host and port in it; `tcp://…` when the target was not a URL. */
  readonly url: string;
  readonly seed: number;
  /** Connections that are open on the client's side. */
  readonly connections: number;
  /** Bytes that reached the other side so far. */
  readonly passed: { readonly up: number; readonly down: number };
  /** Milliseconds; `ms: 0` ends it. */
  latency(options: { readonly ms: number; readonly jitterMs?: number; readonly direction?: Direction }): void;
  /** At least 1; `Infinity` ends it. */
  bandwidth(options: { readonly bytesPerSecond: number; readonly direction?: Direction }): void;
  partition(direction?: Direction): void;
  blackHole(direction?: Direction): void;
  /** `unaware`: the side that goes on believing that its connection is open. Affects connections that are open now. */
  halfOpen(options: { readonly unaware: "client" | "server" }): void;
  refuse(): Promise<void>;
  cutAfter(options: { readonly bytes: number; readonly direction?: Direction }): void;
  reset(): void;
  /** Ends every fault. Resolves when new connections are accepted again. */
  heal(): Promise<void>;
  /** Where new connections lead from now on: an address that moves, as after a fail-over. Open ones stay where they are. */
  redirect(to: Target): void;
  /** Resets what is open. Safe to call twice. */
  close(): Promise<void>;
}

type Way = "up" | "down";
type Piece = { readonly arrivedAtMs: number; readonly chance: number } & (
  { readonly kind: "data"; readonly bytes: Buffer } | { readonly kind: "end" } | { readonly kind: "reset" }
);

interface Faults {
  latencyMs: number;
  jitterMs: number;
  bytesPerSecond: number;
  partitioned: boolean;
  swallowing: boolean;
  /** What may still pass on a connection before it is cut. */
  cutAfterBytes: number;
}

const queuedBytesMax = 1_048_576;
const host = "127.0.0.1";
const none = (): Faults => ({ latencyMs: 0, jitterMs: 0, bytesPerSecond: Infinity, partitioned: false, swallowing: false, cutAfterBytes: Infinity });
const ways = (direction: Direction): readonly Way[] => (direction === "both" ? ["up", "down"] : [direction]);

/** Faults: `testing.bad-option`, `testing.no-port`. */
export async function faultProxy(options: FaultProxyOptions): Promise<FaultProxy> {
  const seed = options.seed ?? systemRandom.uint32();
  const random = seededRandom(seed);
  const faults = { up: none(), down: none() };
  const passed = { up: 0, down: 0 };
  const links = new Set<Link>();
  let target = addressOf(options.to);
  const template = typeof options.to === "string" ? new URL(options.to) : undefined;
  const port = await freePort();
  let listening: Server | undefined;
  let closed = false;

  function accept(client: Socket): void {
    const link = openLink({ client, target, faults, passed, random, onGone: () => links.delete(link) });
    links.add(link);
  }
  async function listen(): Promise<void> {
    if (listening || closed) return;
    const server = createServer({ allowHalfOpen: true, noDelay: true }, accept);
    listening = server;
    await new Promise<void>((resolve, reject) => {
      server.once("error", (cause) =>
        reject(Fault.create("testing.no-port", `The fault proxy cannot listen on port ${port}: ${cause.message}.`, "Run the test again.", { cause })),
      );
      server.listen(port, host, resolve);
    });
  }
  function deafen(): void {
    listening?.close();
    listening = undefined;
  }
  function change(direction: Direction, to: Partial<Faults>): void {
    for (const way of ways(direction)) Object.assign(faults[way], to);
    for (const link of links) link.look();
  }
  await listen();

  const proxy: FaultProxy = {
    host,
    port,
    seed,
    get url() {
      if (!template) return `tcp://${host}:${port}`;
      const url = new URL(template);
      url.hostname = host;
      url.port = String(port);
      return url.href;
    },
    get connections() {
      return links.size;
    },
    get passed() {
      return { ...passed };
    },
    latency({ ms, jitterMs = 0, direction = "both" }) {
      change(direction, { latencyMs: atLeast(0, "ms", ms), jitterMs: atLeast(0, "jitterMs", jitterMs) });
    },
    bandwidth({ bytesPerSecond, direction = "both" }) {
      change(direction, { bytesPerSecond: atLeast(1, "bytesPerSecond", bytesPerSecond) });
    },
    partition: (direction = "both") => change(direction, { partitioned: true }),
    blackHole: (direction = "both") => change(direction, { swallowing: true }),
    halfOpen({ unaware }) {
      for (const link of links) link.halfOpen(unaware);
    },
    async refuse() {
      deafen();
    },
    cutAfter({ bytes, direction = "both" }) {
      for (const link of links) link.countAnew();
      change(direction, { cutAfterBytes: atLeast(0, "bytes", bytes) });
    },
    reset() {
      for (const link of links) link.reset();
    },
    async heal() {
      Object.assign(faults.up, none());
      Object.assign(faults.down, none());
      for (const link of links) link.heal();
      await listen();
    },
    redirect(to) {
      target = addressOf(to);
    },
    async close() {
      closed = true;
      deafen();
      for (const link of links) link.reset();
    },
    [Symbol.asyncDispose]: () => proxy.close(),
  };
  return proxy;
}

interface Link {
  /** Something about the faults has changed. */
  look(): void;
  countAnew(): void;
  reset(): void;
  halfOpen(unaware: "client" | "server"): void;
  heal(): void;
}

interface LinkOptions {
  readonly client: Socket;
  readonly target: { readonly host: string; readonly port: number };
  readonly faults: Readonly<Record<Way, Faults>>;
  readonly passed: Record<Way, number>;
  readonly random: Random;
  readonly onGone: () => void;
}

/** One connection: dialled on when the network lets it, and gone when neither side is open. */
function openLink({ client, target, faults, passed, random, onGone }: LinkOptions): Link {
  // What went into the void cannot be said again: such a connection is beyond healing.
  let beyondHealing = false;
  let server: Socket | undefined;
  const deaf = new Set<Socket>(); // sides that were cut off without the other being told

  const up = lane({ faults: faults.up, random, swallow: () => (beyondHealing = true), sink: () => server, count: (bytes) => (passed.up += bytes), cut: reset });
  const down = lane({
    faults: faults.down,
    random,
    swallow: () => (beyondHealing = true),
    sink: () => client,
    count: (bytes) => (passed.down += bytes),
    cut: reset,
  });
  attach(client, up);
  look();

  function look(): void {
    // The client's first packet has to reach the server, and the answer has to come back.
    if (!server && !client.destroyed && !faults.up.partitioned && !faults.down.partitioned && !faults.up.swallowing && !faults.down.swallowing) {
      server = connect({ ...target, allowHalfOpen: true, noDelay: true });
      attach(server, down);
      server.once("connect", () => up.pump());
    }
    if (!server && (faults.up.swallowing || faults.down.swallowing)) beyondHealing = true;
    up.pump();
    down.pump();
  }

  function attach(source: Socket, into: Lane): void {
    source.on("data", (bytes) => {
      if (deaf.has(source)) return;
      if (!into.add({ kind: "data", bytes })) source.pause();
    });
    source.on("end", () => into.add({ kind: "end" }));
    source.on("error", () => undefined); // its close follows
    source.on("close", (hadError) => {
      if (hadError && !deaf.has(source)) into.add({ kind: "reset" });
      if (client.destroyed && (server?.destroyed ?? true)) {
        up.end();
        down.end();
        onGone();
      }
    });
    into.whenRoom = () => source.resume();
  }

  function reset(): void {
    for (const socket of [client, server]) if (socket && !socket.destroyed) socket.resetAndDestroy();
  }

  return {
    look,
    reset,
    countAnew() {
      up.sent = 0;
      down.sent = 0;
    },
    halfOpen(unaware) {
      const [kept, lost] = unaware === "client" ? [client, server] : [server, client];
      if (!kept || kept.destroyed) return;
      beyondHealing = true;
      deaf.add(kept);
      if (lost) deaf.add(lost);
      up.end();
      down.end();
      lost?.resetAndDestroy();
      kept.resume();
    },
    heal() {
      if (beyondHealing) reset();
      else look();
    },
  };
}

interface Lane {
  /** False when the queue is full: the source should pause until `whenRoom`. */
  add(piece: { readonly kind: "data"; readonly bytes: Buffer } | { readonly kind: "end" } | { readonly kind: "reset" }): boolean;
  whenRoom: () => void;
  /** Sends what may be sent now. */
  pump(): void;
  sent: number;
  end(): void;
}

interface LaneOptions {
  readonly faults: Faults;
  readonly random: Random;
  readonly sink: () => Socket | undefined;
  readonly swallow: () => void;
  readonly count: (bytes: number) => void;
  readonly cut: () => void;
}

function lane({ faults, random, sink, swallow, count, cut }: LaneOptions): Lane {
  const queue: Piece[] = [];
  let queuedBytes = 0;
  let freeAtMs = 0; // when the last piece has gone through the narrowest place
  let alarm: Timer | undefined;
  let waitsForDrain = false;
  let over = false;

  const self: Lane = {
    sent: 0,
    whenRoom: () => undefined,
    add(piece) {
      if (over) return true;
      queue.push({ ...piece, arrivedAtMs: systemClock.monotonicMs(), chance: random.next() });
      if (piece.kind === "data") queuedBytes += piece.bytes.length;
      self.pump();
      return queuedBytes < queuedBytesMax;
    },
    pump() {
      alarm?.cancel();
      while (!over && queue.length > 0 && !faults.partitioned) {
        if (faults.swallowing) {
          swallow();
          queue.length = 0;
          room(queuedBytes);
          return;
        }
        const out = sink();
        if (!out || out.connecting || waitsForDrain) return;
        const head = queue[0] as Piece;
        const nowMs = systemClock.monotonicMs();
        const dueAtMs = Math.max(head.arrivedAtMs + faults.latencyMs + faults.jitterMs * head.chance, freeAtMs);
        if (nowMs < dueAtMs) {
          alarm = systemClock.after(dueAtMs - nowMs, () => self.pump());
          return;
        }
        send(out, head, nowMs);
      }
    },
    end() {
      over = true;
      alarm?.cancel();
      queue.length = 0;
    },
  };

  function send(out: Socket, head: Piece, nowMs: number): void {
    queue.shift();
    if (head.kind === "reset") return void out.resetAndDestroy();
    if (head.kind === "end") return void out.end();
    // In portions of a twentieth of a second, so that a narrow line is slow and not late.
    const portion = Math.min(head.bytes.length, Math.max(1, Math.floor(faults.bytesPerSecond / 20)), faults.cutAfterBytes - self.sent);
    if (portion < head.bytes.length) queue.unshift({ ...head, bytes: head.bytes.subarray(portion) });
    freeAtMs = nowMs + (portion / faults.bytesPerSecond) * 1_000;
    self.sent += portion;
    count(portion);
    if (self.sent >= faults.cutAfterBytes) {
      self.end();
      if (portion === 0 || out.destroyed) cut();
      else out.write(head.bytes.subarray(0, portion), cut);
      return;
    }
    if (out.destroyed) return void room(portion);
    if (!out.write(head.bytes.subarray(0, portion))) {
      waitsForDrain = true;
      const on = () => {
        waitsForDrain = false;
        out.off("drain", on).off("close", on);
        self.pump();
      };
      out.on("drain", on).on("close", on);
    }
    room(portion);
  }

  function room(bytes: number): void {
    const wasFull = queuedBytes >= queuedBytesMax;
    queuedBytes -= bytes;
    if (wasFull && queuedBytes < queuedBytesMax) self.whenRoom();
  }
  return self;
}

function addressOf(to: Target): { readonly host: string; readonly port: number } {
  if (typeof to !== "string") return { host: to.host ?? host, port: to.port };
  const { hostname, port } = URL.canParse(to) ? new URL(to) : { hostname: "", port: "" };
  if (hostname !== "" && port !== "") return { host: hostname.replace(/^\[|\]$/g, ""), port: Number(port) };
  throw Fault.create(
    "testing.bad-option",
    `to must be a URL with a host and a port, not ${JSON.stringify(to)}.`,
    "Pass postgres://host:5432/…, or { host, port }.",
  );
}

function atLeast(least: number, option: string, value: number): number {
  if (value >= least) return value;
  throw Fault.create("testing.bad-option", `${option} must be a number of at least ${least}, not ${value}.`, "Pass another one.");
}
