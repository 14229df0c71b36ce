/**
 * The network between hosts. A message takes a time drawn for it, so messages overtake each other; while a link is disturbed it may be lost, come
 * twice, or wait until the disturbance is over.
 *
 * `call` is a request and its answer over a connection, as TCP gives them. It ends with the answer, with what the other side threw, or with a
 * `BrokenCall` that says whether the other side can have acted: `refused` (it never got there) or `lost` (it may have).
 */
import { seededRandom, type Random } from "../kernel/index.ts";
import type { Host, Life, World } from "./world.ts";

export interface Link {
  /** Lost: this part of the messages, 0 to 1. */
  drop: number;
  /** Delivered twice: this part of what may come twice. */
  duplicate: number;
  /** Each message takes up to so much longer. */
  delayMs: number;
  /** Nothing gets through; whoever waits finds out when its connection is reset. */
  cut: boolean;
  /** Nothing gets through, and nothing is lost: it comes when this is over. */
  clogged: boolean;
}

/** A message takes at least so long and at most so much. */
const latencyMs = [0.2, 2] as const;
/** After which a connection whose messages are lost is found to be broken. */
const resetMs = [200, 2_000] as const;

export class BrokenCall extends Error {
  readonly how: "refused" | "lost";
  constructor(how: "refused" | "lost", to: string) {
    super(how === "refused" ? `${to} could not be reached` : `the connection to ${to} broke before it answered`);
    this.how = how;
  }
}

export interface CallOptions {
  /** For people and for the trace. */
  readonly label: string;
  /** The other side does not mind getting it twice (a proxy or a client may send it again). */
  readonly mayComeTwice?: boolean;
  /** The caller does not wait any more: its end of the connection is closed. */
  readonly signal?: AbortSignal | undefined;
}

const between = (chance: Random, [least, most]: readonly [number, number]): number => least + chance.next() * (most - least);

const worseOf = (a: Link, b: Link): Link => ({
  drop: Math.max(a.drop, b.drop),
  duplicate: Math.max(a.duplicate, b.duplicate),
  delayMs: Math.max(a.delayMs, b.delayMs),
  cut: a.cut || b.cut,
  clogged: a.clogged || b.clogged,
});

/** A call that has not ended. */
export interface OpenCall {
  readonly from: Life;
  readonly to: Host;
  readonly label: string;
  readonly sinceMs: number;
}
interface Calling extends OpenCall {
  /** Its connection is known to nobody on the way: no answer comes, and no reset, until `reset` is called. */
  forgotten: boolean;
  reset(): void;
}

const undisturbed: Link = Object.freeze({ drop: 0, duplicate: 0, delayMs: 0, cut: false, clogged: false });

export class Network {
  readonly #world: World;
  readonly #links = new Map<string, Link>();
  readonly #chances = new Map<Host, Map<Host, Random>>();
  readonly #clogged = new Map<string, (() => void)[]>();
  readonly #open = new Set<Calling>();

  constructor(world: World) {
    this.#world = world;
  }

  /** What disturbs messages from one host to another, in this direction only. `*` is any host. */
  disturb(from: string, to: string, change: Partial<Link>): void {
    const name = `${from} ${to}`;
    this.#links.set(name, { ...(this.#links.get(name) ?? undisturbed), ...change });
    if (change.clogged === false) this.#unclog();
  }

  /** What was held up is sent, and held up again where it still has to be. */
  #unclog(): void {
    const held = [...this.#clogged.values()].flat();
    this.#clogged.clear();
    for (const send of held) send();
  }

  /**
   * The connections that are open from one host to another are half open: something on the way has forgotten them, so what was asked is done and no answer comes
   * back. Connections that are made from now on work. Answers how to end it: then whoever still waits finds out.
   */
  forget(from: string, to: string): () => void {
    const forgotten = [...this.#open].filter((one) => (from === "*" || one.from.host.name === from) && (to === "*" || one.to.name === to));
    for (const one of forgotten) one.forgotten = true;
    return () => {
      for (const one of forgotten) if (this.#open.has(one)) one.reset();
    };
  }

  /** Calls of lives that go on, which nobody has answered. */
  openCalls(): readonly OpenCall[] {
    return [...this.#open].filter(({ from }) => from.alive);
  }

  /** Every link is as it was at the beginning. */
  heal(): void {
    this.#links.clear();
    this.#unclog();
  }

  /** One way, at most once. `arrive` runs in the life that the other host then has. */
  send(from: Host, to: Host, label: string, arrive: (life: Life) => void): void {
    this.#message(from, to, label, arrive, () => undefined);
  }

  /** One way, until it has arrived or either life has ended: for what the other side would ask for again. */
  sendSurely(from: Life, to: Life, label: string, arrive: () => void): void {
    const again = () => {
      if (!from.alive || !to.alive) return;
      this.#message(
        from.host,
        to.host,
        label,
        (life) => {
          if (life === to) arrive();
        },
        () => void this.#world.at(between(this.#chance(from.host, to.host), resetMs), undefined, `${label} again`, again),
      );
    };
    again();
  }

  /** `serve` may ask for a signal that aborts when the caller does not wait any more. */
  call<T>(from: Life, to: Host, { label, mayComeTwice, signal }: CallOptions, serve: (life: Life, closed: () => AbortSignal) => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const chance = this.#chance(from.host, to);
      const open: Calling = { from, to, label, sinceMs: this.#world.nowMs, forgotten: false, reset: () => resetAfter("lost", between(chance, resetMs)) };
      this.#open.add(open);
      let ended = false;
      /** In the caller's life, if that is still the one it has. */
      const end = (settle: () => void) => {
        if (ended) return;
        ended = true;
        this.#open.delete(open);
        stopListening();
        settle();
      };
      const resetAfter = (how: "refused" | "lost", afterMs: number) =>
        void this.#world.at(afterMs, from, `${label} broke`, () => end(() => reject(new BrokenCall(how, to.name))));
      const broken = (how: "refused" | "lost", afterMs: number): void => {
        if (!open.forgotten) resetAfter(how, afterMs);
      };
      let closing: AbortController | undefined;
      const closed = () => (closing ??= new AbortController()).signal;
      const aborted = () =>
        end(() => {
          this.send(from.host, to, `${label} closed`, () => (closing ??= new AbortController()).abort());
          reject(signal?.reason as Error);
        });
      const stopListening = () => signal?.removeEventListener("abort", aborted);
      if (signal?.aborted) return end(() => reject(signal.reason as Error));
      signal?.addEventListener("abort", aborted, { once: true });

      const deliver = () =>
        this.#message(
          from.host,
          to,
          label,
          (life) => {
            // The host may die before it answers: its connections are reset.
            const stop = life.onEnd(() => broken("lost", between(chance, latencyMs)));
            const answer = (settle: () => void) => {
              stop();
              if (open.forgotten) return;
              this.#message(
                to,
                from.host,
                `${label} answered`,
                (back) => {
                  if (back === from) end(settle);
                },
                () => broken("lost", between(chance, resetMs)),
              );
            };
            serve(life, closed).then(
              (value) => answer(() => resolve(value)),
              (error: unknown) => answer(() => reject(error as Error)),
            );
          },
          (why) => (why === "down" ? broken("refused", between(chance, latencyMs)) : broken("lost", between(chance, resetMs))),
        );
      deliver();
      const { duplicate } = this.#link(from.host, to);
      if (mayComeTwice && duplicate > 0 && chance.next() < duplicate) deliver();
    });
  }

  #message(from: Host, to: Host, label: string, arrive: (life: Life) => void, lost: (why: "down" | "dropped") => void): void {
    const link = this.#link(from, to);
    if (link.clogged) {
      const name = `${from.name} ${to.name}`;
      const waiting = this.#clogged.get(name) ?? [];
      this.#clogged.set(name, waiting);
      waiting.push(() => this.#message(from, to, label, arrive, lost));
      return;
    }
    const chance = this.#chance(from, to);
    if (link.cut || (link.drop > 0 && chance.next() < link.drop)) return lost("dropped");
    const tookMs = between(chance, latencyMs) + (link.delayMs > 0 ? chance.next() * link.delayMs : 0);
    const { life } = to;
    // Where a host is down now, its machine says so at once; one that comes up meanwhile is another process.
    this.#world.at(tookMs, undefined, `${from.name} > ${to.name}: ${label}`, () => {
      if (!life || to.life !== life) return lost("down");
      if (!to.isPaused) return to.takesUp(life, () => arrive(life));
      // It may die before it takes this up.
      const stop = life.onEnd(() => lost("dropped"));
      this.#world.at(0, life, label, () => {
        stop();
        arrive(life);
      });
    });
  }

  #link(from: Host, to: Host): Link {
    if (from === to || this.#links.size === 0) return undisturbed;
    let link: Link = undisturbed;
    for (const name of [`${from.name} ${to.name}`, `${from.name} *`, `* ${to.name}`, "* *"]) {
      const one = this.#links.get(name);
      if (one) link = link === undisturbed ? one : worseOf(link, one);
    }
    return link;
  }
  /** Each direction of each link draws from its own stream: a fault that is left out changes nothing where it was not. */
  #chance(from: Host, to: Host): Random {
    let ofHost = this.#chances.get(from);
    if (!ofHost) this.#chances.set(from, (ofHost = new Map()));
    let chance = ofHost.get(to);
    if (!chance) ofHost.set(to, (chance = seededRandom(`${this.#world.seed} from ${from.name} ${to.name}`)));
    return chance;
  }
}
