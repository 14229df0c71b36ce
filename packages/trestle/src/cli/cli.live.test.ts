import assert from "node:assert/strict";
import { chmodSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { bookshopFile, place, type Ran } from "./testing/run.ts";

const wrong: readonly (readonly [readonly string[], number, RegExp])[] = [
  [[], 2, /^trestle <command>/],
  [["grpah"], 2, /there is no command "grpah".*\nDid you mean `trestle graph`\?/],
  [["queue"], 2, /queue needs one of: ls, retry, redrive, edit, cancel, pause, resume/],
  [["queue", "edit", "mail", "--id", "01a1f97c-4a2b-7da9-bb50-a71b100cab71", "--message", "{"], 2, /--message must be JSON/],
  [["queue", "pause"], 2, /<queue>/],
  [["queue", "redirve"], 2, /queue has no command "redirve".*\nDid you mean `trestle queue redrive`\?/],
  [["doctor", "--prot", "1"], 2, /doctor has no option --prot; it has .*\nDid you mean `--port`\?/],
  [["doctor", "--port", "99999"], 2, /--port must be a whole number from 0 to 65535, got "99999"/],
  [["doctor", "--port"], 2, /cli\.bad-option: trestle doctor: /],
  [["doctor", "--store", "redis://x"], 2, /store "redis:\/\/x": it must be memory: or sqlite:<path>/],
  [["graph"], 2, /graph needs <app\.ts>/],
  [["graph", "a.ts", "b.ts"], 2, /graph takes <app\.ts>, got "a\.ts" "b\.ts"/],
  [["graph", "nothing.ts"], 2, /there is none at .*nothing\.ts/],
  [["start", bookshopFile, "--roles", "web,wroker"], 2, /--roles must name roles of the app \(.*\), got "wroker"/],
  [["queue", "ls", "--state", "gone"], 2, /--state must be one of .*, got "gone"/],
  [["queue", "retry", "mail"], 2, /retry needs --id/],
  [["queue", "retry", "--id", "7"], 2, /ids must be UUIDs in lower case, got "7"/],
  [["queue", "ls"], 2, /there is no store in .*\.trestle/],
  [["queue", "ls", "--store", "sqlite:gone.db"], 4, /there is no file .*gone\.db/],
  [["queue", "ls", "--url", "http://localhost:59998"], 4, /no node answers at http:\/\/localhost:59998 \(ECONNREFUSED\)/],
  [["move", "--to", "postgres://db/shop"], 2, /move needs --from/],
  [["move", "--from", "sqlite:gone.db", "--to", "postgres://db/shop"], 4, /there is no file .*gone\.db/],
  [["move", "--from", "memory:", "--to", "postgres://db/shop"], 2, /--from must be a store in a file/],
  [["move", "--from", "postgres://db/shop", "--to", "postgres://db/shop"], 2, /--from must be a SQLite store/],
  [["check", bookshopFile], 2, /degradation-policies\.yaml cannot be read: ENOENT/],
  [["degradation"], 2, /degradation needs one of: ls, hold, release/],
  [["degradation", "hold", "desk.write"], 2, /degradation hold needs <rung>/],
  [["degradation", "hold", "desk.write", "halfway"], 2, /<rung> must be one of full, stale, partial, static, unavailable, got "halfway"/],
  [["plan", bookshopFile, "--to", "redis://x"], 2, /store "redis:\/\/x"/],
  [["queue", "ls", "--url", "localhost:1"], 2, /--url must be an http or https URL, got "localhost:1"/],
];

test("a wrong command line names the option, the rule and the value, suggests the nearest, and prints no data", async () => {
  using here = place();
  const queue = [...wrong];
  const failures: string[] = [];
  const lane = async () => {
    for (let row = queue.shift(); row; row = queue.shift()) {
      const [args, code, message] = row;
      const ran = await here.run(args);
      if (ran.code !== code || !message.test(ran.err) || ran.out !== "") failures.push(`${args.join(" ")}\n${JSON.stringify(ran)}`);
    }
  };
  await Promise.all([lane(), lane()]);

  assert.deepEqual(failures, []);
});

test("with --json an error is one object on stderr with code, message and remedy", async () => {
  using here = place();

  const { code, out, err } = await here.run(["graph", "nothing.ts", "--json"]);

  assert.deepEqual([code, out], [2, ""]);
  assert.deepEqual(Object.keys((JSON.parse(err) as { error: object }).error), ["code", "message", "remedy"]);
});

test("every command has help on stdout that names its options", async () => {
  using here = place();

  const overview = await here.run(["--help"]);
  const names = [...overview.out.matchAll(/^ {2}(start|graph|queue \w+|check|degradation \w+|plan|move|doctor)/gm)].map((match) => match[1] as string);

  assert.equal(names.length, 16);
  for (const name of names) {
    const { code, out } = await here.run([...name.split(" "), "--help"]);
    assert.equal(code, 0);
    assert.match(out, new RegExp(`^trestle ${name}[\\s\\S]*--json[\\s\\S]*--help`));
  }
  assert.match((await here.run(["--version"])).out, /^\d+\.\d+\.\d+\n$/);
});

test("graph reads an app without starting it, as text, Mermaid and JSON", async () => {
  using here = place();

  const [text, mermaid, json] = [
    await here.run(["graph", bookshopFile]),
    await here.run(["graph", bookshopFile, "--mermaid"]),
    await here.run(["graph", bookshopFile, "--json"]),
  ];

  assert.match(text.out, /^app bookshop: 3 components, 2 edges\n/);
  assert.match(text.out, /mail .*role worker, owner post\n {4}write {3}letters/);
  assert.match(mermaid.out, /^flowchart LR\n[\s\S]*c\d -->\|send\| c\d/);
  const graph = JSON.parse(json.out) as { version: number; app: string; edges: object[] };
  assert.deepEqual([graph.version, graph.app], [1, "bookshop"]);
  assert.deepEqual(graph.edges, [
    { from: "mail", to: "letters", operation: "write" },
    { from: "desk", to: "mail", operation: "send" },
  ]);
  assert.ok(!existsSync(join(here.folder, ".trestle")), "it made a store");
});

test("a file that is no app, or does not load, is told apart from a missing one", async () => {
  using here = place();
  writeFileSync(join(here.folder, "empty.ts"), "export const answer = 42;\n");
  writeFileSync(join(here.folder, "broken.ts"), "throw new Error('half written');\n");

  const [empty, broken] = [await here.run(["graph", "empty.ts"]), await here.run(["graph", "broken.ts"])];

  assert.deepEqual([empty.code, broken.code], [2, 1]);
  assert.match(empty.err, /must export an app.*it has none \(exports: answer\)/);
  assert.match(broken.err, /could not be loaded: half written[\s\S]*at .*broken\.ts/);
});

test("start prints its URL when it is ready, answers there, and ends with 0 on SIGTERM and 130 on Ctrl-C", async () => {
  using here = place();
  for (const [signal, wanted] of [
    ["SIGTERM", 0],
    ["SIGINT", 130],
  ] as const) {
    const { child, line, ended } = await here.start(["start", bookshopFile, "--port", "0", "--json"]);
    const { app, url, pid } = JSON.parse(line) as { app: string; url: string; pid: number };
    const answer = await fetch(`${url}/letters`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ to: "ada" }) });
    const ready = await fetch(`${url}/_trestle/health/ready`);

    child.kill(signal);
    const { code, out, err } = await ended;

    assert.deepEqual([app, pid, answer.status, ready.status, code], ["bookshop", child.pid, 200, 200, wanted], err);
    assert.equal(out.trim().split("\n").length, 1, "stdout holds more than the data");
    assert.ok(!existsSync(join(here.folder, ".trestle", "bookshop.db.node.json")));
  }
});

test("start says what keeps it from starting: a port in use and a directory without rights are this machine's", async () => {
  using here = place();
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "localhost", resolve));
  const { port } = server.address() as { port: number };

  const used = await here.run(["start", bookshopFile, "--port", String(port)]);
  writeFileSync(join(here.folder, "file"), "");
  const inFile = await here.run(["start", bookshopFile, "--port", "0", "--store", "sqlite:file/inside/a.db"]);
  writeFileSync(join(here.folder, "not-a-store.db"), "This is not a database, and it is long enough to be read as one.");
  const damaged = await here.run(["start", bookshopFile, "--port", "0", "--store", "sqlite:not-a-store.db"]);
  server.close();

  assert.deepEqual([used.code, inFile.code, damaged.code], [3, 3, 4], `${used.err}${inFile.err}${damaged.err}`);
  assert.match(used.err, new RegExp(`http\\.port-in-use: port ${port} on localhost is in use`));
  assert.match(inFile.err, /store\.not-writable/);
  assert.match(damaged.err, /store\.corrupt/);
});

test("[RES-12] a process that is stuck does not answer its liveness probe, and answers again when it goes on", async () => {
  using here = place();
  const { child, line } = await here.start(["start", bookshopFile, "--port", "0"]);
  const probe = () =>
    fetch(`${line}/_trestle/health/live`, { signal: AbortSignal.timeout(1_000) }).then(
      (answer) => answer.status,
      () => "no answer",
    );

  const before = await probe();
  child.kill("SIGSTOP");
  const stuck = await probe();
  child.kill("SIGCONT");
  const after = await until(probe, (status) => status === 200);

  assert.deepEqual([before, stuck, after], [200, "no answer", 200]);
});

interface Depths {
  readonly queues: readonly { readonly queue: string; readonly waiting: number; readonly dead: number }[];
}
interface Jobs extends Depths {
  readonly jobs: readonly { readonly id: string; readonly state: string; readonly error?: string }[];
}

const data = <T>({ out, err }: Ran): T => {
  assert.notEqual(out, "", err);
  return JSON.parse(out) as T;
};

async function writeLetters(url: string, count: number): Promise<void> {
  for (let i = 0; i < count; i++)
    await fetch(`${url}/letters`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ to: "nobody" }) });
}

async function until<T>(look: () => Promise<T>, enough: (seen: T) => boolean): Promise<T> {
  for (let tries = 0; ; tries++) {
    const seen = await look();
    if (enough(seen) || tries === 60) return seen;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

test("queue works through the node while one holds the store, and on the store itself when none does", { timeout: 90_000 }, async () => {
  using here = place();
  const { child, line, ended } = await here.start(["start", bookshopFile, "--port", "0"]);
  await writeLetters(line, 3);

  const viaNode = await until(
    async () => data<Jobs>(await here.run(["queue", "ls", "mail", "--state", "dead", "--json"])),
    ({ jobs }) => jobs.length === 3,
  );
  const [first = "", second = ""] = viaNode.jobs.map(({ id }) => id);
  const retried = await here.run(["queue", "retry", "--id", first, "--id", "01a1f97c-4a2b-7da9-bb50-a71b100cab71", "--json"]);
  await until(
    async () => data<Depths>(await here.run(["queue", "ls", "--json"])),
    ({ queues }) => queues.find(({ queue }) => queue === "mail")?.dead === 3,
  );
  child.kill("SIGTERM");
  await ended;

  const onStore = await here.run(["queue", "ls"]);
  const preview = await here.run(["queue", "redrive", "--dry-run"]);
  const one = await here.run(["queue", "retry", "mail", "--id", second]);
  const rest = await here.run(["queue", "redrive", "mail", "--json"]);
  const after = data<Depths>(await here.run(["queue", "ls", "--json", "--store", "sqlite:.trestle/bookshop.db"]));

  assert.match(viaNode.jobs[0]?.error ?? "", /no such mailbox/);
  assert.equal(retried.code, 1, "an id that named nothing is a problem");
  assert.deepEqual(data<{ jobs: number; missing: string[] }>(retried).missing, ["01a1f97c-4a2b-7da9-bb50-a71b100cab71"]);
  assert.match(onStore.out, /^queue +waiting +running[^\n]*\nmail +0 +0 +- +3 /m);
  assert.match(preview.out, /^mail: 3\n3 dead would be put back\n$/);
  assert.deepEqual([one.code, one.out], [0, "1 put back\n"]);
  assert.deepEqual([data<{ jobs: number }>(rest).jobs, after.queues.find(({ queue }) => queue === "mail")?.waiting], [2, 3]);

  const again = await here.start(["start", bookshopFile, "--port", "0"], { MAIL_WORKS: "yes" });
  const drained = await until(
    async () => data<Depths>(await here.run(["queue", "ls", "--json"])),
    ({ queues }) => queues.every(({ waiting }) => waiting === 0),
  );
  again.child.kill("SIGTERM");
  assert.equal((await again.ended).code, 0);
  assert.ok(
    drained.queues.every(({ waiting, dead }) => waiting === 0 && dead === 0),
    JSON.stringify(drained),
  );
});

test("a note left behind by a killed node does not mislead: the store itself is opened", async () => {
  using here = place();
  const { child, line, ended } = await here.start(["start", bookshopFile, "--port", "0"]);
  await writeLetters(line, 1);
  child.kill("SIGKILL");
  await ended;

  const ran = await here.run(["queue", "ls", "--json"]);

  assert.ok(existsSync(join(here.folder, ".trestle", "bookshop.db.node.json")));
  assert.equal(ran.code, 0, ran.err);
  assert.equal(data<Depths>(ran).queues.length, 1);
});

test("a node with a token answers the command line only when it has the token", async () => {
  using here = place();
  const { line, child, ended } = await here.start(["start", bookshopFile, "--port", "0"], { TRESTLE_TOKEN: "a-long-and-random-token" });

  const without = await here.run(["queue", "ls", "--url", line]);
  const withIt = await here.run(["queue", "ls", "--url", line], { TRESTLE_TOKEN: "a-long-and-random-token" });
  child.kill("SIGTERM");
  await ended;

  assert.deepEqual([without.code, withIt.code], [4, 0], `${without.err}${withIt.err}`);
  assert.match(without.err, /answered 401.*\n.*TRESTLE_TOKEN/);
});

interface Diagnosis {
  readonly ok: boolean;
  readonly checks: readonly { readonly name: string; readonly status: string; readonly reason: string; readonly fix?: string }[];
}

test("doctor finds a healthy machine healthy, and measures it", async () => {
  using here = place();

  const { code, out } = await here.run(["doctor", "--port", "0", "--json"]);
  const { checks } = JSON.parse(out) as Diagnosis;

  assert.deepEqual(
    checks.map(({ name }) => name),
    ["node", "port", "durability", "directory", "file system", "disk space", "store", "fsync", "clock"],
  );
  assert.deepEqual([code, checks.filter(({ status }) => status === "fail")], [0, []]);
  assert.match(checks.find(({ name }) => name === "fsync")?.reason ?? "", /half within [\d.]+ ms/);
  assert.ok(!existsSync(join(here.folder, ".trestle")), "looking left something behind");
});

test("doctor says of each trouble what it saw and how to mend it, and ends with 3", async () => {
  using here = place();
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "localhost", resolve));
  const { port } = server.address() as { port: number };
  mkdirSync(join(here.folder, "closed"));
  writeFileSync(join(here.folder, "text.db"), "no database at all, but long enough to be read as a header of one: 0123456789");
  const find = (text: string, name: string) => (JSON.parse(text) as Diagnosis).checks.find((check) => check.name === name);

  const used = await here.run(["doctor", "--port", String(port), "--json"]);
  const damaged = await here.run(["doctor", "--port", "0", "--store", "sqlite:text.db", "--json"]);
  const weak = await here.run(["doctor", "--port", "0", "--store", "sqlite:a.db?synchronous=normal", "--json"]);
  const inFile = await here.run(["doctor", "--port", "0", "--store", "sqlite:text.db/a.db", "--json"]);
  server.close();

  assert.deepEqual([used.code, damaged.code, weak.code, inFile.code], [3, 3, 0, 3], inFile.err);
  assert.match(find(used.out, "port")?.reason ?? "", /is not free \(EADDRINUSE\)/);
  assert.match(find(damaged.out, "store")?.reason ?? "", /damaged, or no SQLite file/);
  assert.equal(find(weak.out, "durability")?.status, "warn");
  assert.match(find(inFile.out, "directory")?.reason ?? "", /is not a directory/);
  for (const { out } of [used, damaged, weak, inFile])
    for (const check of (JSON.parse(out) as Diagnosis).checks) assert.ok(check.status === "ok" || check.fix !== undefined, check.name);
});

test("doctor sees a directory that may not be written", { skip: process.getuid?.() === 0 && "the superuser may write anywhere" }, async () => {
  using here = place();
  mkdirSync(join(here.folder, "closed"));
  chmodSync(join(here.folder, "closed"), 0o500);

  const { code, out } = await here.run(["doctor", "--port", "0", "--store", "sqlite:closed/a.db"]);

  assert.equal(code, 3);
  assert.match(out, /fail {2}directory .*cannot be written/);
});

test("trestle plan says what another store gives up, appears with and costs, before anything is opened", async () => {
  using here = place();

  const weaker = await here.run(["plan", bookshopFile, "--from", "sqlite:shop.db", "--to", "sqlite:shop.db?synchronous=normal", "--json"]);
  const other = await here.run(["plan", bookshopFile, "--from", "sqlite:shop.db", "--to", "postgres://ada:secret@db.internal/shop"]);

  const plan = JSON.parse(weaker.out) as {
    readonly vanish: readonly string[];
    readonly appear: readonly string[];
    readonly costs: readonly { readonly what: string }[];
  };
  assert.deepEqual([weaker.code, plan.vanish, plan.appear, plan.costs.map(({ what }) => what)], [0, ["commit.durable"], [], ["commit"]]);
  assert.match(other.out, /sqlite \(sqlite:shop\.db\) → postgres \(postgres:\/\/ada:\*\*\*@db\.internal\/shop\)/);
  assert.match(other.out, /read by key\n {4}now {3}in the process/);
  assert.equal(existsSync(join(here.folder, "shop.db")), false);
});

test("[RES-06] check says everything that is wrong with a file of policies, with lines, and what of it the app has not", async () => {
  using here = place();
  const policies = join(here.folder, "policies.yaml");
  const text = (route: string, serve: string) =>
    `version: 1\nroutes:\n  ${route}:\n    ladder: [full, unavailable]\n    when:\n      - { saturation: pool, enter: 0.9, serve: ${serve} }\n`;

  writeFileSync(policies, text("desk.write", "unavailable"));
  const fits = await here.run(["check", bookshopFile, policies, "--saturation", "pool"]);
  assert.deepEqual([fits.code, fits.err], [0, ""]);
  assert.match(fits.out, /desk\.write +dark +full unavailable +saturation pool → unavailable\n\n.*fits bookshop\.\n$/s);
  const unnamed = await here.run(["check", bookshopFile, policies, "--json"]);
  assert.equal(unnamed.code, 1);
  assert.deepEqual((JSON.parse(unnamed.out) as { flaws: readonly string[] }).flaws, [
    'line 6, column 23: routes."desk.write".when[0].saturation must be one of event-loop, got pool',
  ]);
  writeFileSync(policies, text("desk.wrote", "static"));
  const broken = await here.run(["check", bookshopFile, policies]);
  assert.equal(broken.code, 1);
  assert.match(
    broken.out,
    /line 6, column 48: .*serve must be a rung of the ladder below full \(unavailable\), got static\n.*line 4, column 5: .* is no operation of this app; it has desk\.write\n/,
  );
});

test("a route is held and released on a store that no node has open, and through a node that does", async () => {
  using here = place();
  const store = `sqlite:${join(here.folder, "shop.db")}`;
  const policies = join(here.folder, "policies.yaml");
  writeFileSync(
    policies,
    "version: 1\nmode: enforce\nroutes:\n  desk.write:\n    ladder: [full, unavailable]\n    when: [{ saturation: event-loop, enter: 1, serve: unavailable }]\n",
  );
  const { bookshop } = await import("./testing/bookshop.ts");
  const { start } = await import("../index.ts");
  const run = async () => start(bookshop, { store: store as "sqlite:", port: 0, degradation: policies, log: () => undefined });
  await (await run()).stop();

  assert.equal((await here.run(["degradation", "hold", "desk.write", "unavailable", "--store", store])).out, "desk.write is held on unavailable\n");
  assert.match((await here.run(["degradation", "ls", "--store", store])).out, /desk\.write +unavailable/);
  await using node = await run();
  const write = () => fetch(`${node.url}/letters`, { method: "POST", headers: { "content-type": "application/json" }, body: '{"to":"ada"}' });
  assert.equal((await write()).status, 503);
  assert.match((await here.run(["degradation", "ls", "--store", store])).out, /desk\.write +unavailable +\d+ s +enforce +by hand +held by hand/);
  assert.equal((await here.run(["degradation", "hold", "desk.write", "static", "--url", node.url])).code, 4);
  assert.equal((await here.run(["degradation", "release", "desk.write", "--url", node.url])).code, 0);
  assert.match((await here.run(["degradation", "ls", "--url", node.url, "--json"])).out, /"route":"desk\.write"(?!.*"held")/);
});
