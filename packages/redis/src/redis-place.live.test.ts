/** The place on a real Redis: the script's law, its keys, a server that is killed, stands still, restarts, forgets its scripts, or is a cluster. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import { test } from "node:test";
import { missing, redis } from "@trestle/testing";
import { Redis } from "ioredis";
import { app, get, open, service, start } from "trestle";
import { Fault, sleep, systemClock } from "trestle/kernel";
import { limiter, type LimitPlace } from "trestle/limits";
import { z } from "zod";
import { assertHoldsWhileAway, limitAt, policies } from "../../trestle/src/limits/testing/limit-at.ts";
import { openLimits } from "./index.ts";

const skip = await missing("redis", { managed: true });
const clock = systemClock;
let opened = 0;
const placeAt = (url: string): LimitPlace => openLimits({ url, app: "test", id: `process-${++opened}`, clock });
const slow = { perMs: 1 / 3_600_000, burst: 10 };

test("[RES-10] a draw takes what there is in multiples of what is of use, gives back, and its key goes when the bucket is full", { skip }, async () => {
  await using server = await redis();
  const place = placeAt(server.url);
  const looking = new Redis(server.url);
  try {
    const drawn = (least: number, wanted: number, back = 0, key = "key") =>
      place.draw({ ...slow, key, least, wanted, back }).then(({ granted, taken }) => [granted, Math.round(taken)]);

    assert.deepEqual(await Promise.all([drawn(1, 4), drawn(3, 9), drawn(1, 5), drawn(1, 1)]), [
      [4, 4],
      [6, 10],
      [0, 10],
      [0, 10],
    ]);
    assert.deepEqual(
      [await drawn(0, 0, 5), await drawn(2, 9), await drawn(0.5, 9), await drawn(0, 0, 100)],
      [
        [0, 5],
        [4, 9],
        [1, 10],
        [0, 0],
      ],
    );
    assert.deepEqual(await looking.keys("*limit*"), [], "a full bucket is none");

    await drawn(1, 3, 0, "other");
    const leftMs = await looking.pttl("trestle:test:limit:other");
    assert.ok(leftMs > 3 * 3_500_000 && leftMs <= 3 * 3_600_000, `${leftMs}`);
    await looking.script("FLUSH");
    assert.deepEqual(await drawn(1, 1, 0, "other"), [1, 4], "a script that the server has forgotten is sent again");
    await looking.set("trestle:test:limit:far", String(8e15));
    assert.deepEqual(await drawn(1, 1, 0, "far"), [0, 10], "a bucket of a clock that went back is empty, and no more than that");
    assert.equal(place.processes, 1);
  } finally {
    looking.disconnect();
    await place.close();
  }
});

test("[RES-10] eight processes on one key: no more than the law", { skip }, async () => {
  await using server = await redis();
  const places = Array.from({ length: 8 }, () => placeAt(server.url));
  try {
    for (const [exactness, more] of [
      ["exact", 0],
      ["leased", 0.1],
    ] as const) {
      const limits = places.map((place) => limitAt(place, { perSecond: 2_000, burst: 400, exactness }));
      const key = `shared ${exactness}`;
      let [admitted, over] = [0, false];
      const fromMs = clock.monotonicMs();
      await Promise.all(
        limits.map(async (limit) => {
          while (!over) {
            for (let nth = 0; nth < 20; nth++) if ((await limit.take(key)) === 0) admitted++;
            await sleep(clock, 1);
            over = clock.monotonicMs() - fromMs > 1_500;
          }
        }),
      );
      const seconds = (clock.monotonicMs() - fromMs) / 1_000;
      const said = `${exactness}: ${admitted} admitted in ${seconds} s`;
      assert.ok(admitted <= 400 + 2_000 * (seconds + more) + 2, said);
      assert.ok(admitted >= 0.2 * (400 + 2_000 * seconds), said);
    }
    for (let tries = 0; places.some(({ processes }) => processes !== 8); tries++) {
      assert.ok(tries < 150, `each knows of the others: ${places.map(({ processes }) => processes).join()}`);
      await Promise.all(places.map((place) => place.draw({ ...slow, key: "any", least: 1, wanted: 1, back: 0 })));
      await sleep(clock, 200);
    }
  } finally {
    for (const place of places) await place.close();
  }
});

for (const policy of policies)
  test(
    `[RES-10] Redis is killed, stands still and comes back: ${policy[0]} holds, nobody waits twice, and it counts again by itself`,
    { skip, timeout: 60_000 },
    async () => {
      await using server = await redis();
      const place = placeAt(server.url);
      try {
        await assertHoldsWhileAway(place, server, policy);
      } finally {
        await place.close();
      }
    },
  );

test("who starts before Redis does waits for it as long as its limit says, and counts when it is there", { skip, timeout: 60_000 }, async () => {
  await using server = await redis();
  await server.stop();
  const place = placeAt(server.url);
  try {
    const limit = limitAt(place, { within: 50 });
    assert.ok((await limit.take("key")) > 0);
    await server.start();
    for (let tries = 0; (await limit.take(`key ${tries}`)) !== 0; tries++) {
      assert.ok(tries < 300, "it is not reached");
      await sleep(clock, 50);
    }
  } finally {
    await place.close();
  }
});

test("a server that never answers, or is not there, has no draw wait for the first connection without end", { timeout: 60_000 }, async () => {
  const silent = createServer().listen(0, "127.0.0.1");
  await once(silent, "listening");
  const { port } = silent.address() as AddressInfo;
  const places: LimitPlace[] = [];
  const failsBy = async (url: string) => {
    const place = placeAt(url);
    places.push(place);
    await assert.rejects(place.draw({ ...slow, key: "key", least: 1, wanted: 1, back: 0 }));
  };
  try {
    await failsBy(`redis://127.0.0.1:${port}`);
    silent.close();
    await failsBy(`redis://127.0.0.1:${port}`);
    await failsBy(`redis://127.0.0.1:${port}?cluster=true`);
  } finally {
    for (const place of places) await place.close();
  }
});

test("what is no bucket counts as a full one", { skip }, async () => {
  await using server = await redis();
  const place = placeAt(server.url);
  const looking = new Redis(server.url);
  try {
    await looking.set("trestle:test:limit:text", "text");
    await looking.lpush("trestle:test:limit:list", "a");

    const draws = ["list", "text", "other"].map((key) => place.draw({ ...slow, key, least: 1, wanted: 4, back: 0 }));
    assert.deepEqual(
      (await Promise.all(draws)).map(({ granted, taken }) => [granted, Math.round(taken)]),
      [
        [4, 4],
        [4, 4],
        [4, 4],
      ],
    );
  } finally {
    looking.disconnect();
    await place.close();
  }
});

test("more draws than one call has, of several rules, and of parts of tokens: each gets its own answer", { skip }, async () => {
  await using server = await redis();
  const place = placeAt(server.url);
  try {
    const draws = Array.from({ length: 100 }, (_, nth) => ({
      key: `key ${nth % 40}`,
      perMs: slow.perMs,
      burst: 10 + (nth % 3),
      least: 0.25,
      wanted: 4 + (nth % 5) / 4,
      back: 0,
    }));
    const left = new Map<string, number>();
    const due = draws.map(({ key, burst, wanted, least }) => {
      const there = Math.max(0, burst - (left.get(key) ?? 0));
      const granted = wanted <= there ? wanted : Math.floor(there / least) * least;
      left.set(key, Math.min(burst, left.get(key) ?? 0) + granted);
      return granted;
    });

    const drawn = await Promise.all(draws.map((draw) => place.draw(draw)));

    assert.deepEqual(
      drawn.map(({ granted }) => granted),
      due,
    );
    assert.ok(due.includes(0) && due.includes(4) && due.some((granted) => granted % 1 === 0.25));
  } finally {
    await place.close();
  }
});

test("a cluster is found by one of its nodes", { skip, timeout: 60_000 }, async () => {
  await using server = await redis({ settings: { "cluster-enabled": "yes", "cluster-announce-ip": "127.0.0.1" } });
  const making = new Redis(server.url);
  await making.call("CLUSTER", "ADDSLOTSRANGE", "0", "16383");
  while (!(await making.cluster("INFO")).includes("cluster_state:ok")) await sleep(clock, 20);
  making.disconnect();
  const place = placeAt(`${server.url}?cluster=true`);
  try {
    const limit = limitAt(place, { within: "10s" });
    assert.deepEqual(await Promise.all(Array.from({ length: 20 }, async (_, nth) => limit.take(`key ${nth}`))), Array(20).fill(0));
    assert.deepEqual(
      await Promise.all(Array.from({ length: 21 }, async () => limit.take("one"))).then((all) => all.filter((waitMs) => waitMs === 0).length),
      20,
    );
  } finally {
    await place.close();
  }
});

test("an app counts where `counters` says, in a handler and on a route, and two nodes of it together", { skip }, async () => {
  await using server = await redis();
  const mails = limiter("mails", { key: z.string(), rate: "1/h", burst: 3, across: "fleet", whenUnreachable: "refuse", within: "10s" });
  const post = service(
    "post",
    { uses: { mails } },
    {
      look: get("/look", { limit: { per: "everyone", rate: "1/h", burst: 2, across: "fleet", whenUnreachable: "refuse", within: "10s" } }, () => ({})),
    },
  );
  const counters = server.url as `redis://${string}`;
  const running = { store: "memory:", counters, port: 0, log: () => undefined } as const;
  await using one = await start(app("mailing", [post, mails]), running);
  await using two = await start(app("mailing", [post, mails]), running);
  const look = async (node: typeof one) => {
    const answer = await node.fetch(new Request("http://mailing/look"));
    return [answer.status, answer.headers.get("ratelimit")];
  };

  const took = [await one.open(mails).take("ada"), await two.open(mails).take("ada"), await one.open(mails).take("ada"), await two.open(mails).take("ada")];
  assert.deepEqual(
    took.map((each) => (each.ok ? each.left : each.refused)),
    [2, 1, 0, "over-limit"],
  );
  assert.deepEqual([await look(one), await look(two), (await look(one))[0]], [[200, '"everyone";r=1;t=3600'], [200, '"everyone";r=0;t=3600'], 429]);
});

test("a URL that names no server is a fault that does not tell it", async () => {
  for (const counters of ["redis:///secret", "http://secret", "redis://secret/x", "secret"])
    await assert.rejects(
      open(limiter("a", { key: z.string(), rate: "1/s", across: "fleet", whenUnreachable: "admit" }), { store: "memory:", counters: counters as "redis://x" }),
      (thrown) => Fault.is(thrown, "limits.url-unknown") && !thrown.message.includes("secret"),
    );
});
