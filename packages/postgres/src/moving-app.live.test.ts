import assert from "node:assert/strict";
import { fork, type ChildProcess } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { start } from "trestle";
import { systemClock } from "trestle/kernel";
import { move } from "../../trestle/src/move/index.ts";
import { moveSource, openSqliteStore } from "../../trestle/src/sqlite/index.ts";
import { postgresMoveTarget } from "./index.ts";
import { fixture } from "./testing/fixture.ts";
import { effects, moving, notes } from "./testing/moving-app.ts";

const postgres = await fixture();
const children = new Set<ChildProcess>();
const home = mkdtempSync(join(tmpdir(), "trestle-moving-"));
after(() => {
  for (const child of children) child.kill("SIGKILL");
  rmSync(home, { recursive: true });
});

async function node(store: string): Promise<{ readonly process: ChildProcess; readonly url: string }> {
  const child = fork(fileURLToPath(new URL("./testing/moving-app.ts", import.meta.url)), [store], {
    execArgv: ["--disable-warning=ExperimentalWarning"],
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  children.add(child);
  const url = await new Promise<string>((resolve, reject) => {
    child.once("message", (told) => resolve(told as string));
    child.once("exit", (code) => reject(new Error(`the app ended with ${code}`)));
  });
  return { process: child, url };
}

test(
  "[F13] an app goes on through a move; a process that slept through the cut commits nothing until it has followed",
  { skip: postgres.skip, timeout: 120_000 },
  async () => {
    const path = join(home, "app.db");
    const [first, second] = [await node(`sqlite:${path}`), await node(`sqlite:${path}`)];
    let running = true;
    const answered: string[] = [];
    const failed: string[] = [];
    let longestMs = 0;
    const client = async (url: string, paused: () => boolean) => {
      while (running) {
        const key = randomUUID();
        const fromMs = performance.now();
        try {
          const response = await fetch(`${url}/notes`, {
            method: "POST",
            headers: { "content-type": "application/json", "idempotency-key": `"${key}"` },
            body: JSON.stringify({ key }),
          });
          if (response.status === 201) answered.push(key);
          else failed.push(`${response.status} ${await response.text()}`);
        } catch (error) {
          failed.push(String(error));
        }
        if (!paused()) longestMs = Math.max(longestMs, performance.now() - fromMs);
      }
    };
    let asleep = false;
    const clients = [...Array.from({ length: 6 }, () => client(first.url, () => false)), ...Array.from({ length: 6 }, () => client(second.url, () => asleep))];
    await sleep(1_500);

    const source = await moveSource(path, await openSqliteStore({ path }), systemClock);
    const target = await postgresMoveTarget({ url: postgres.server.url, schema: "moving" });
    const url = `${postgres.server.url}?schema=moving`;
    asleep = true;
    second.process.kill("SIGSTOP");
    const report = await move({ source, target, url, clock: systemClock });
    await sleep(500);
    second.process.kill("SIGCONT");
    await sleep(1_500);
    running = false;
    await Promise.all(clients);

    const left = source.head();
    await source.close();
    await target.close();
    await using here = await start(moving, { store: url as "postgres://", port: 0, host: "127.0.0.1", roles: ["worker"], log: () => undefined });
    await here.idle();
    const seen = new Map<string, number>();
    for (let cursor: string | undefined; ;) {
      const page = await here.open(notes).list({ limit: 500, cursor });
      for (const { key } of page.items) seen.set(key, (seen.get(key) ?? 0) + 1);
      if (page.next === undefined) break;
      cursor = page.next;
    }
    assert.deepEqual(failed, []);
    assert.ok(answered.length > 100, `${answered.length} answers`);
    assert.deepEqual([left.n, left.position], [report.head?.n, report.head?.position], "nothing was committed in the old store after its last commit");
    assert.deepEqual(
      answered.filter((key) => seen.get(key) !== 1),
      [],
    );
    // A claim whose answer was on its way to the process that slept is nobody's until its lease is over; nothing else may be missing.
    let undone = 0;
    for (let at = 0; at < answered.length; at += 200) {
      const keys = answered.slice(at, at + 200);
      const done = await here.open(effects).getMany(keys);
      undone += keys.filter((key) => !done.has(key)).length;
      assert.deepEqual(
        [...done].filter(([, times]) => times !== 1),
        [],
      );
    }
    const session = await postgres.session("moving");
    const { rows } = await session.query<{ state: number; left: string }>("select state, lease_until_ms - store_now(null) as left from job");
    assert.equal(rows.length, undone);
    assert.ok(
      rows.every(({ state, left }) => state === 2 && Number(left) < 33_000),
      JSON.stringify(rows),
    );
    assert.ok((report.pausedMs ?? Infinity) < 1_000, `commits waited for ${report.pausedMs} ms`);
    console.log(
      `moved ${report.rows.record} records under load; commits waited for ${Math.round(report.pausedMs ?? 0)} ms, a request at most ${Math.round(longestMs)} ms; ${undone} jobs wait for the end of a lease`,
    );
  },
);
