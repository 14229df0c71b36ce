/** The order in which a server is looked for, on a machine made of a temporary folder. */
import assert from "node:assert/strict";
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { findProgram, type Searched } from "./find-program.ts";

const folders: string[] = [];
after(() => folders.forEach((folder) => rmSync(folder, { recursive: true, force: true })));

function folderWith(...programs: readonly (readonly [name: string, script: string])[]): string {
  const folder = mkdtempSync(join(tmpdir(), "trestle-find-"));
  folders.push(folder);
  for (const [name, script] of programs) {
    writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`);
    chmodSync(join(folder, name), 0o755);
  }
  return folder;
}

const searched: Searched = {
  name: "Somedb",
  urlVariable: "TEST_SOMEDB_URL",
  pathVariable: "SOMEDB_BIN",
  program: "somedb-server",
  debianPackages: ["somedb"],
  image: { name: "somedb:1", program: "/bin/somedb-server" },
};
const bare = { TRESTLE_TEST_INSTALL: "no", PATH: "" };

test("a URL in the environment comes before everything", async () => {
  const folder = folderWith(["somedb-server", ""]);

  assert.deepEqual(await findProgram(searched, { ...bare, PATH: folder, TEST_SOMEDB_URL: "some://where" }), { kind: "url", url: "some://where" });
});

test("a named program comes before one that npm or the system brings, and that before PATH", async () => {
  const [named, brought, inPath] = [folderWith(["somedb-server", ""]), folderWith(["somedb-server", ""]), folderWith(["somedb-server", ""])];
  const withPlaces = { ...searched, places: () => [brought] };
  const at = (folder: string) => ({ kind: "program", path: join(folder, "somedb-server") });

  assert.deepEqual(await findProgram(withPlaces, { ...bare, PATH: inPath, SOMEDB_BIN: named }), at(named));
  assert.deepEqual(await findProgram(withPlaces, { ...bare, PATH: inPath, SOMEDB_BIN: join(named, "somedb-server") }), at(named));
  assert.deepEqual(await findProgram(withPlaces, { ...bare, PATH: inPath }), at(brought));
  assert.deepEqual(await findProgram(searched, { ...bare, PATH: inPath }), at(inPath));
});

test(
  "a container engine is used when it answers, and named in the reason when it does not",
  { skip: process.platform === "linux" ? false : "containers are used on Linux only" },
  async () => {
    const answering = folderWith(["docker", "echo 28.0"]);
    const silent = folderWith(["docker", "exit 1"]);

    assert.deepEqual(await findProgram(searched, { ...bare, PATH: answering }), {
      kind: "container",
      engine: join(answering, "docker"),
      image: "somedb:1",
      program: "/bin/somedb-server",
    });
    assert.deepEqual(await findProgram(searched, { ...bare, PATH: silent }), {
      kind: "none",
      reason: "no Somedb: TEST_SOMEDB_URL is not set, no somedb-server in SOMEDB_BIN or PATH, TRESTLE_TEST_INSTALL is no, docker does not answer",
    });
  },
);

const mayInstall = process.getuid?.() === 0 && existsSync("/etc/debian_version");

test("two who lack the same program do not install it at the same time", { skip: mayInstall ? false : "not root on Debian" }, async (t) => {
  const folder = folderWith();
  const program = join(folder, "somedb-server");
  const busy = join(folder, "busy");
  const installer = folderWith(["apt-get", `mkdir ${busy} || exit 100\nsleep 0.3\n: > ${program}\nchmod +x ${program}\nrmdir ${busy}`]);
  const path = process.env["PATH"];
  t.after(() => (process.env["PATH"] = path));
  process.env["PATH"] = `${installer}:${path}`;

  const found = await Promise.all([1, 2].map(() => findProgram(searched, { PATH: folder })));

  assert.deepEqual(found, Array(2).fill({ kind: "program", path: program }));
});
