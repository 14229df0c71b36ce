/**
 * The writer's thread, started before anybody asks for it. Loading takes it as long as an app takes to load, so whoever knows that a store in a
 * file will be opened lets the two load side by side. Until then the thread has no file: it holds nothing, and keeps no process alive.
 * This file imports nothing of this package, so that it is there first.
 */
import { getCompileCacheDir } from "node:module";
import { dirname } from "node:path";
import { Worker } from "node:worker_threads";

let waiting: Worker | undefined;

/**
 * Starts to load what a store in a SQLite file needs, beside whatever is loaded after this call; the first such store that is opened uses it. For the
 * first lines of a program, which then loads the rest by `import()`. `store`: its URL, default `TRESTLE_STORE`; for another engine's nothing is done.
 */
export function loadStoreAhead(store: string = process.env["TRESTLE_STORE"] ?? "sqlite:"): void {
  if (waiting || !store.startsWith("sqlite:")) return;
  const thread = (waiting = startThread());
  thread.unref();
  // What kept it from loading is said by the one that is started when a store is opened.
  thread.once("error", () => waiting === thread && (waiting = undefined));
}

/** A thread for one file, which waits for it. */
export function takeThread(): Worker {
  const thread = waiting ?? startThread();
  waiting = undefined;
  return thread;
}

function startThread(): Worker {
  const compiled = getCompileCacheDir();
  return new Worker(new URL(import.meta.url.endsWith(".ts") ? "./writer-thread.ts" : "./writer-thread.js", import.meta.url), {
    name: "trestle-writer",
    // Nothing of the host's command line belongs into this thread: a test runner's or profiler's flags would run in it too.
    execArgv: [],
    // A process that keeps compiled code because its program asked for it (module.enableCompileCache) does not tell its threads: 50 ms of a start.
    ...(compiled !== undefined && { env: { ...process.env, NODE_COMPILE_CACHE: dirname(compiled) } }),
  });
}
