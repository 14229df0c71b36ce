import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { Fault, virtualClock } from "../kernel/index.ts";
import { followPolicies, policiesOf, readPolicies, type Flaw } from "./index.ts";

const folder = mkdtempSync(join(tmpdir(), "trestle-policies-"));
after(() => rmSync(folder, { recursive: true }));

const good = `# when prices are gone
version: 1
mode: enforce
routes:
  shop.catalogue:
    ladder: [full, stale, static]
    when:
      - breaker: prices
        serve: stale
`;

async function toldOf(text: string, known?: () => readonly Flaw[]): Promise<string> {
  const fault = await policiesOf(text, "policies.yaml", known).catch((thrown: unknown) => thrown);
  assert.ok(Fault.is(fault, "degradation.bad-policy"), String(fault));
  return fault.message;
}

test("YAML and JSON are read alike", async () => {
  const [fromYaml] = await policiesOf(good, "policies.yaml");
  const [fromJson] = await policiesOf(
    JSON.stringify({
      version: 1,
      mode: "enforce",
      routes: { "shop.catalogue": { ladder: ["full", "stale", "static"], when: [{ breaker: "prices", serve: "stale" }] } },
    }),
    "policies.json",
  );

  assert.equal(fromYaml?.route, "shop.catalogue");
  assert.deepEqual(fromYaml, fromJson);
});

test("[RES-06] what is wrong is told with its line, its option, the rule and the value", async () => {
  assert.equal(
    await toldOf(good.replace("serve: stale", "serve: partial")),
    'policies.yaml: line 9, column 16: routes."shop.catalogue".when[0].serve must be a rung of the ladder below full (stale, static), got partial',
  );
  assert.match(await toldOf(good.replace("version: 1", "version: 7")), /^policies\.yaml: line 2, column 10: version must be 1, got 7$/);
  assert.match(
    await toldOf(good.replace("      - breaker: prices\n  ", "      -")),
    /line 8, column 14: .*when\[0\] must have exactly one of breaker/,
    "what is missing, where it is missing from",
  );
  assert.match(await toldOf("version: 1\nroutes: {\n"), /^policies\.yaml: line 3, column 1: the whole is no YAML: /);
  assert.match(await toldOf(""), /the whole must be a mapping, got null/);
  assert.match(await toldOf("version: 1\nversion: 1\nroutes: {}\n"), /line 2, column 1: .*unique/);
  assert.match(
    await toldOf(good, () => [{ path: ["routes", "shop.catalogue"], rule: "is no operation of this app" }]),
    /^policies\.yaml: line 6, column 5: .* is no operation of this app$/,
  );
  const many = `a: &a [x, x, x, x, x, x, x, x, x, x]\n${[..."bcdefgh"].map((name, at) => `${name}: &${name} [${`*${"abcdefg"[at]}, `.repeat(9)}*${"abcdefg"[at]}]`).join("\n")}\n`;
  assert.match(await toldOf(many), /is no YAML: Excessive alias count/, "aliases of aliases do not fill the memory");
  assert.match(await toldOf("version: 1\nroutes: { a: { ladder: *standrd } }\n"), /is no YAML: Unresolved alias/);
  assert.match(await toldOf("[".repeat(200_000)), /is no YAML: /);
});

test("a file that is not there is named with the reason", async () => {
  await assert.rejects(readPolicies(join(folder, "none.yaml")), (fault) => Fault.is(fault, "degradation.no-file") && /ENOENT/.test(fault.message));
});

test("[RES-06] a followed file: each version that fits is told, one that does not is told once with its line and changes nothing", async () => {
  const clock = virtualClock();
  const path = join(folder, "followed.yaml");
  writeFileSync(path, good);
  const { stamp } = await readPolicies(path);
  const told: string[] = [];
  const followed = followPolicies(path, stamp, {
    clock,
    onRules: (rules) => void told.push(`rules for ${rules.map(({ route, dwellMs }) => `${route} ${dwellMs}`).join()}`),
    onRefused: (fault) => void told.push(fault.message.slice(path.length + 2)),
  });
  /** So many looks, each with time for the disk. */
  const looks = async (count: number) => {
    for (let look = 0; look < count * 3; look++) {
      await clock.advance(400);
      for (let turn = 0; turn < 3; turn++) await readFile(path).catch(() => undefined);
    }
  };

  await looks(3);
  assert.deepEqual(told, [], "nothing has changed");
  writeFileSync(path, good.replace("serve: stale", "serve: nothing"));
  await looks(4);
  assert.deepEqual(told.splice(0), [
    'line 9, column 16: routes."shop.catalogue".when[0].serve must be one of full, stale, partial, static, unavailable, got "nothing"',
  ]);
  assert.ok(Fault.is(followed.refused, "degradation.bad-policy"));
  writeFileSync(path, good.replace("serve: stale", "serve: *stael"));
  await looks(4);
  assert.match(told.splice(0).join(), /^the whole is no YAML: Unresolved alias/);
  rmSync(path);
  await looks(3);
  assert.match(told.splice(0).join(), /ENOENT/);
  writeFileSync(path, good.replace("    when", "    dwell: 3s\n    when"));
  await looks(4);
  assert.deepEqual(told.splice(0), ["rules for shop.catalogue 3000"]);
  assert.equal(followed.refused, undefined);
  followed.stop();
  writeFileSync(path, good);
  await looks(3);
  assert.deepEqual(told, []);
});
