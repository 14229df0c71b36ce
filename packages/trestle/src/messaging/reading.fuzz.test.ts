/**
 * Readers and watchers beside writers, in seeded interleavings: whoever reads begins anywhere, pauses anywhere, breaks off and comes back.
 * `FUZZ_SEED=<seed>` replays one run; `FUZZ_RUNS` says how many.
 */
import { test } from "node:test";
import assert from "node:assert/strict";
import { z } from "zod";
import { app, start, type Node } from "../app/index.ts";
import { resumeIdOf } from "../component/index.ts";
import { aggregate, command, projection } from "../events/index.ts";
import { partitionOf, seededRandom, sleep, virtualClock, type Random, type VirtualClock } from "../kernel/index.ts";
import { records } from "../records/index.ts";
import { sse, service } from "../service/index.ts";
import { topic } from "./index.ts";

const given = process.env["FUZZ_SEED"];
const seeds = given ? [given] : Array.from({ length: Number(process.env["FUZZ_RUNS"] ?? 8) }, (_, i) => `reading-${i}`);
const pick = <T>(random: Random, list: readonly T[]): T => list[Math.floor(random.next() * list.length)] as T;

const keys = ["a", "b", "c", "d", "e"];
const ticks = topic("ticks", {
  events: { Tick: z.object({ n: z.int(), key: z.string() }), Tock: z.object({ n: z.int(), key: z.string() }) },
  key: ({ data }) => data.key,
});
const counter = aggregate(
  "counter",
  { id: z.string(), events: { Counted: z.object({}) }, initial: () => ({ n: 0 }), evolve: { Counted: ({ n }) => ({ n: n + 1 }) } },
  {
    count: command((_n, emit) => emit.Counted()),
  },
);
const counts = projection(
  "counts",
  { from: counter, row: z.object({ n: z.int() }) },
  {
    creates: { Counted: () => ({ n: 1 }) },
    updates: { Counted: ({ n }) => ({ n: n + 1 }) },
  },
);
const notes = records("notes", { key: z.string(), value: z.object({ n: z.int() }) });
const windows = service(
  "windows",
  { uses: { counter, counts, notes } },
  {
    counter: sse("/counter", {}, (_request, { counter }) => counter.watch("x")),
    counts: sse("/counts", {}, (_request, { counts }) => counts.watch("x")),
    notes: sse("/notes", {}, (_request, { notes }) => notes.watch("x")),
  },
);
const house = app("house", [ticks, counter, counts, notes, windows]);

async function replayable(seed: string, work: (random: Random, clock: VirtualClock, node: Node) => Promise<void>): Promise<void> {
  const clock = virtualClock();
  const random = seededRandom(seed);
  const node = await start(house, { store: "memory:", log: () => undefined, clock, random: seededRandom(`${seed} ids`) });
  try {
    await work(random, clock, node);
  } catch (error) {
    throw new Error(`seed ${seed}: FUZZ_SEED=${seed} npm test -- packages/trestle/src/messaging/reading.fuzz.test.ts`, { cause: error });
  } finally {
    await node.stop();
  }
}

/** Steps of virtual time until all of it is over. */
async function elapse(clock: VirtualClock, work: readonly Promise<unknown>[]): Promise<void> {
  let over = false;
  const all = Promise.all(work).finally(() => (over = true));
  all.catch(() => undefined);
  for (let i = 0; i < 5_000 && !over; i++) await clock.advance(1);
  assert.ok(over, "all of it ends");
  await all;
}

test("[MSG-05] a reader who catches up while others publish, breaks off and comes back gets each of its events once, in order, and none it did not ask for", async () => {
  for (const seed of seeds) {
    await replayable(seed, async (random, clock, node) => {
      const topicHandle = node.open(ticks);
      let n = 0;
      const write = async (times: number) => {
        for (let i = 0; i < times; i++) {
          const key = pick(random, keys);
          await node.commit({ ticks }, ({ ticks }) => (random.next() < 0.5 ? ticks.publish.Tick({ n: n++, key }) : ticks.publish.Tock({ n: n++, key })));
          if (random.next() < 0.4) await sleep(clock, random.next() * 5);
        }
      };
      await elapse(clock, [write(Math.floor(random.next() * 400))]);
      const of = 1 + Math.floor(random.next() * 3);
      const readers = Array.from({ length: 4 }, () => ({
        got: [] as string[],
        types: random.next() < 0.5 ? (["Tick"] as const) : undefined,
        partition: random.next() < 0.5 ? { index: Math.floor(random.next() * of), of } : undefined,
        position: "start",
        over: false,
      }));
      const follow = async (reader: (typeof readers)[number], stop: () => boolean) => {
        const { types, partition } = reader;
        while (!stop()) {
          const patience = 1 + Math.floor(random.next() * 60);
          let taken = 0;
          const events = topicHandle
            .follow({ from: reader.position, ...(types ? { types } : {}), ...(partition ? { partition } : {}) })
            [Symbol.asyncIterator]();
          for (;;) {
            const next = await Promise.race([events.next(), sleep(clock, 20).then(() => undefined)]);
            if (!next || next.done) break;
            reader.got.push(next.value.position);
            reader.position = next.value.position;
            if (random.next() < 0.2) await sleep(clock, random.next() * 3);
            if (++taken >= patience) break;
          }
          void events.return?.();
        }
      };
      let writing = true;
      const writers = Promise.all([write(60), write(60)]).then(async () => {
        await sleep(clock, 200);
        writing = false;
      });
      await elapse(clock, [writers, ...readers.map((reader) => follow(reader, () => !writing))]);

      const all: { readonly position: string; readonly type: string; readonly key: string }[] = [];
      const whole = topicHandle.follow({ from: "start" })[Symbol.asyncIterator]();
      while (all.length < n) {
        const next = await whole.next();
        if (!next.done) all.push(next.value);
      }
      for (const { got, types, partition } of readers) {
        const wanted = all.filter((event) => (!types || event.type === "Tick") && (!partition || partitionOf(event.key, partition.of) === partition.index));
        assert.deepEqual(
          got,
          wanted.map(({ position }) => position),
        );
      }
    });
  }
});

test("a watch tells what stands now and what comes, in order, the last one always, and after a resume nothing twice", async () => {
  for (const seed of seeds) {
    await replayable(seed, async (random, clock, node) => {
      const write = async (times: number) => {
        for (let i = 0; i < times; i++) {
          await node.commit({ counter, notes }, async ({ counter, notes }) => {
            const counted = await counter.count("x");
            if (counted.ok) notes.put("x", counted.state);
          });
          if (random.next() < 0.5) await sleep(clock, random.next() * 4);
        }
      };
      const watching = { counter: [] as number[], counts: [] as number[], notes: [] as number[] };
      /** Never breaks off: here a change that is missed stays missed. */
      const long: number[] = [];
      const staying = (async () => {
        for await (const note of node.open(notes).watch("x")) {
          if (note) long.push(note.n);
          if (note?.n === 50) return;
          if (random.next() < 0.5) await sleep(clock, random.next() * 6);
        }
      })();
      let writing = true;
      /** As a browser does: reads the stream, loses it, comes back with the id it saw last. */
      const watch = async (what: keyof typeof watching) => {
        let last: string | undefined;
        while (writing) {
          const patience = 1 + Math.floor(random.next() * 12);
          const gone = new AbortController();
          const response = await node.fetch(
            new Request(`http://x/${what}`, {
              headers: { accept: "text/event-stream", ...(last === undefined ? {} : { "last-event-id": last }) },
              signal: gone.signal,
            }),
          );
          const reader = (response.body as ReadableStream<Uint8Array>).pipeThrough(new TextDecoderStream()).getReader();
          let text = "";
          for (let taken = 0; taken < patience;) {
            const next = await Promise.race([reader.read().catch(() => undefined), sleep(clock, 30).then(() => undefined)]);
            if (!next || next.done) break;
            text += next.value;
            for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
              const lines = text.slice(0, end).split("\n");
              text = text.slice(end + 2);
              const id = lines.find((line) => line.startsWith("id: "))?.slice(4);
              const data = lines.find((line) => line.startsWith("data: "))?.slice(6);
              if (data === undefined || data === "null") continue;
              if (id !== undefined) last = id;
              watching[what].push((JSON.parse(data) as { n: number }).n);
              taken += 1;
            }
          }
          gone.abort();
          void reader.cancel().catch(() => undefined);
        }
      };
      const writers = Promise.all([write(30), write(20)]).then(async () => {
        await sleep(clock, 300);
        writing = false;
      });
      await elapse(clock, [writers, staying, watch("counter"), watch("counts"), watch("notes")]);

      for (const [what, seen] of Object.entries({ ...watching, long })) {
        assert.ok(
          seen.every((value, i) => i === 0 || value > (seen[i - 1] as number)),
          `${what}: ${seen.join(" ")}`,
        );
        assert.equal(seen.at(-1), 50, `${what} shows the last state`);
      }
    });
  }
});

test("what a watch yields carries the id a reader resumes by", async () => {
  await using node = await start(house, { store: "memory:", log: () => undefined });
  await node.open(notes).put("x", { n: 1 });
  const { value } = await node.open(notes).watch("x")[Symbol.asyncIterator]().next();

  assert.match(resumeIdOf(value) ?? "", /^\d+$/);
});
