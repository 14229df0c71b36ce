// How do I get a durable queue into the Express service I already have? Open one: no app, no broker, no second process.
import { pathToFileURL } from "node:url";
import express from "express";
import { open, queue, type StartOptions } from "trestle";
import { z } from "zod";

export const welcomed: string[] = [];

export const welcome = queue("welcome", { input: z.object({ email: z.email() }), retry: { attempts: 10, from: "1s" } }, ({ email }, _uses, { log }) => {
  welcomed.push(email); // here you would write the mail
  log.info("welcomed", { email });
});

export async function serve(store: NonNullable<StartOptions["store"]>, port: number) {
  const jobs = await open(welcome, { store });
  const web = express().use(express.json());

  web.post("/sign-up", async (request, response) => {
    const { id } = await jobs.send({ email: request.body.email }); // on disk when this resolves
    response.status(202).json({ job: id });
  });
  web.get("/backlog", async (_request, response) => void response.json(await jobs.depth()));

  const server = web.listen(port);
  return { server, jobs };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) await serve("sqlite:./.trestle/express.db", 3000);
