/** A fleet's limit at a place, and what has to hold of it, wherever that is, while nobody answers there. */
import assert from "node:assert/strict";
import { seededRandom, sleep, systemClock as clock } from "../../kernel/index.ts";
import { fleetRule, FleetLimit, ReachedPlace, type Across, type LimitPlace } from "../index.ts";

export interface LimitAt extends Partial<Across & { readonly across: "fleet" }> {
  /** Default one an hour: none comes back within a test. */
  readonly perSecond?: number;
  /** Default 20. */
  readonly burst?: number;
  readonly onUnreachable?: () => void;
}

/** On the system clock. `whenUnreachable` is `refuse` by default. */
export function limitAt(place: LimitPlace, { perSecond = 1 / 3_600, burst = 20, onUnreachable = () => undefined, ...across }: LimitAt = {}): FleetLimit {
  const rule = fleetRule({ across: "fleet", whenUnreachable: "refuse", ...across }, { perSecond, burst, keys: 1_000 }, "test", "test");
  assert.ok(rule);
  return new FleetLimit({ rule, at: new ReachedPlace(place, clock), clock, random: seededRandom("test"), onUnreachable });
}

/** What each policy admits of thirty takes of one key of a burst of twenty, in a fleet of one process. */
export const policies = [
  ["admit", 30],
  ["refuse", 0],
  ["local-share", 20],
] as const;

/** What of a server can be broken, and mended. */
export type Breakable = Readonly<Record<"kill" | "start" | "pause" | "resume", () => Promise<unknown>>>;

/** The server of `place` is killed, stands still, and comes back each time: this policy holds meanwhile, nobody waits but the first ones, and the place counts again by itself. */
export async function assertHoldsWhileAway(place: LimitPlace, server: Breakable, [whenUnreachable, admitted]: (typeof policies)[number]): Promise<void> {
  const limit = limitAt(place, { whenUnreachable, within: 1_500 });
  await countedAt(limit, "before");

  for (const [fail, mend] of [
    ["kill", "start"],
    ["pause", "resume"],
  ] as const) {
    await server[fail]();
    // The first ones may wait, or be refused the connection at once; from then on nobody does.
    const first = await limit.take(`${fail} 0`);
    assert.equal(first === 0, whenUnreachable !== "refuse", `${fail}: the first`);
    let count = 0;
    for (let nth = 0; nth < 30; nth++) {
      const taken = limit.take(fail);
      assert.equal(typeof taken, "number", `${fail}: nobody waits`);
      if (taken === 0) count++;
    }
    assert.equal(count, admitted, fail);

    await server[mend]();
    await countedAt(limit, `again ${fail}`);
  }
}

/** Until one is answered by the place, and not by policy. */
async function countedAt(limit: FleetLimit, key: string): Promise<void> {
  for (let tries = 0; ; tries++) {
    assert.ok(tries < 600, "it is not reached again");
    const taken = limit.take(`${key} ${tries}`);
    if (typeof taken !== "number" && (await taken) === 0 && limit.look(`${key} ${tries}`).left === 19) return;
    await sleep(clock, 50);
  }
}
