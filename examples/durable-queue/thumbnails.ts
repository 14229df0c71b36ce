// How do I run work later, surely, with nothing to install? A queue over a file: what was sent survives the process.
import { open, queue, records, type StartOptions } from "trestle";
import { z } from "zod";

export const thumbnails = records("thumbnails", { key: z.string(), value: z.object({ width: z.int(), attempts: z.int() }) });

export const resize = queue(
  "resize",
  {
    input: z.object({ picture: z.string(), width: z.int().positive() }),
    key: ({ picture }) => picture, // one picture's jobs run in order, different pictures side by side
    uses: { thumbnails },
    retry: { attempts: 5, from: "20ms", upTo: "1s" },
  },
  ({ picture, width }, { thumbnails }, { attempt, dead }) => {
    if (picture.endsWith(".exe")) return dead("not a picture"); // kept for a person, not tried again
    if (attempt === 1) throw new Error("the first attempt fails, and the queue tries again");
    thumbnails.put(`${picture}@${width}`, { width, attempts: attempt }); // written in the commit that finishes the job: once
  },
);

export async function main(store: NonNullable<StartOptions["store"]> = "sqlite:./.trestle/thumbnails.db") {
  await using jobs = await open(resize, { store });
  await jobs.send({ picture: "cat.png", width: 200 });
  await jobs.send({ picture: "cat.png", width: 400 }, { in: "50ms" });
  await jobs.send({ picture: "virus.exe", width: 200 });

  for (let depth = await jobs.depth(); ; depth = await jobs.depth()) {
    if (depth.waiting + depth.running === 0) return depth;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

if (import.meta.main) console.log(await main());
