import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { sleep } from "../kernel/index.ts";
import type { Store } from "../store/index.ts";
import { blockedMsMax, leaseMs } from "./dispatcher.ts";
import { queue } from "./index.ts";
import { memoryStore, runNode } from "./testing.ts";

test("where the store has heartbeats a node shows it every second, and before each claim, that its loop turns, and stops with its last queue", async () => {
  const { clock, store } = await memoryStore();
  const seen: string[] = [];
  const beatsAt: number[] = [];
  const withHeartbeat = new Proxy(store, {
    get(of, name) {
      if (name === "heartbeat")
        return ((holder, options) => {
          seen.push(holder);
          assert.deepEqual(options, { leaseMs, blockedMsMax });
          return { beat: () => void beatsAt.push(clock.monotonicMs()), stop: () => void seen.push("stopped") };
        }) satisfies Store["heartbeat"];
      if (name === "claim") beatsAt.push(Infinity);
      return Reflect.get(of, name) as unknown;
    },
  });
  const work = queue("work", { input: z.object({}) }, () => sleep(clock, 5_000));
  const node = await runNode([work], { clock, store: withHeartbeat });
  await node.commit({ work }, ({ work }) => work.send({}));
  await clock.advance(20_000);
  await node.stop();

  const claims = beatsAt.flatMap((at, i) => (at === Infinity ? [i] : []));
  const beats = beatsAt.filter((at) => at !== Infinity);
  assert.deepEqual(seen, [node.id, "stopped"]);
  assert.ok(beats.every((at, i) => i === 0 || at - (beats[i - 1] as number) <= 1_000) && beats.length >= 20, beats.join(" "));
  assert.ok(claims.length >= 2 && claims.every((i) => beatsAt[i - 1] !== Infinity), "a beat before each claim");
});
