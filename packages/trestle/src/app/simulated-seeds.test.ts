import assert from "node:assert/strict";
import { mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { simulatedFile, simulatedSeeds } from "./simulated-seeds.ts";

const folder = mkdtempSync(join(tmpdir(), "trestle-seeds-"));
after(() => rmSync(folder, { recursive: true }));
const write = (name: string, atMs: number) => {
  writeFileSync(join(folder, name), `<p>${name}</p>`);
  utimesSync(join(folder, name), atMs / 1_000, atMs / 1_000);
};
write("busyDay-0x2a.html", 1_700_000_000_000);
write("busyDay-0x2a.jsonl", 1_700_000_000_000);
write("withOverlap-0x1.html", 1_700_000_005_000);
write("notes.txt", 1_700_000_009_000);

test("seeds that broke a promise are listed, the newest first, with what there is of them", async () => {
  assert.deepEqual(await simulatedSeeds(folder), [
    { name: "withOverlap", seed: "0x1", atMs: 1_700_000_005_000, page: "withOverlap-0x1.html", trace: undefined },
    { name: "busyDay", seed: "0x2a", atMs: 1_700_000_000_000, page: "busyDay-0x2a.html", trace: "busyDay-0x2a.jsonl" },
  ]);
  assert.deepEqual(await simulatedSeeds(join(folder, "nowhere")), []);
});

test("only such files are served, as pages that may run nothing and load nothing", async () => {
  const page = await simulatedFile(folder, "busyDay-0x2a.html");
  const trace = await simulatedFile(folder, "busyDay-0x2a.jsonl");

  assert.equal(await page?.text(), "<p>busyDay-0x2a.html</p>");
  assert.match(page?.headers.get("content-security-policy") ?? "", /default-src 'none'.*sandbox/);
  assert.equal(trace?.headers.get("content-type"), "application/x-ndjson");
  for (const name of ["notes.txt", "gone-0x1.html", "../busyDay-0x2a.html", "a/../busyDay-0x2a.html", "", ".."])
    assert.equal(await simulatedFile(folder, name), undefined, name);
});
