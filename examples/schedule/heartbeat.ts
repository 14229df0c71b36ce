// How do I run something by the clock, once in the whole fleet? A schedule: a tick and its effect are one commit.
import { app, records, schedule, start, type StartOptions } from "trestle";
import { z } from "zod";

export const reports = records("reports", { key: z.string(), value: z.object({ due: z.number(), missed: z.int() }) });

export const heartbeat = schedule(
  "heartbeat",
  { every: "1s", missed: "once", uses: { reports } }, // ticks missed while nothing ran are made up for by one
  ({ due, missed }, { reports }, { log }) => {
    reports.put(new Date(due).toISOString(), { due, missed });
    log.info("still here", { due });
  },
);

export const nightly = schedule("nightly", { cron: "0 3 * * *", zone: "Europe/Berlin", uses: { reports } }, async ({ due }, { reports }, { log }) => {
  const { items } = await reports.list({ limit: 100 });
  log.info("beats of the day", { due, beats: items.length });
});

export const clockApp = app("heartbeat", [heartbeat, nightly]);

export const main = (options: StartOptions = {}) => start(clockApp, options);

if (import.meta.main) await main();
