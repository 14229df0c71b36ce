/**
 * A Node of another release than the pinned one, for tests that must hold on both: named by an environment variable, kept from before in `.cache/nodes`, or
 * brought there by npm as a platform package, which holds one binary and no install script (record 0003). Where none is to be had the answer is a
 * reason, for the `skip` of a test.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

export type OtherNode = { readonly path: string; readonly reason: undefined } | { readonly path: undefined; readonly reason: string };

const root = resolve(dirname(fileURLToPath(import.meta.url)), "../../../../..");
/** Of each release that we know to run the store (record 0003), the one that is tested. */
const tested = { 26: "26.10.0" } as const;

export function otherNode(release: keyof typeof tested): OtherNode {
  const variable = `TRESTLE_TEST_NODE_${release}`;
  const named = process.env[variable];
  if (named !== undefined && named !== "") return { path: named, reason: undefined };
  const name = `node-${process.platform}-${process.arch}`;
  const folder = join(root, ".cache", "nodes", tested[release]);
  const path = join(folder, "node_modules", name, "bin", "node");
  if (existsSync(path)) return { path, reason: undefined };
  const lacks = `no Node ${release}: ${variable} is not set`;
  if (process.env["TRESTLE_TEST_INSTALL"] === "no") return { path: undefined, reason: `${lacks}, TRESTLE_TEST_INSTALL is no` };
  process.stderr.write(`No Node ${release} yet: npm install ${name}@${tested[release]}\n`);
  mkdirSync(folder, { recursive: true });
  const { status, error, stderr } = spawnSync(
    "npm",
    [
      "install",
      "--prefix",
      folder,
      "--ignore-scripts",
      "--no-save",
      "--no-package-lock",
      "--no-audit",
      "--no-fund",
      "--loglevel=error",
      `${name}@${tested[release]}`,
    ],
    { cwd: folder, encoding: "utf8", timeout: 300_000 },
  );
  if (status === 0 && existsSync(path)) return { path, reason: undefined };
  return { path: undefined, reason: `${lacks}, and npm brings no ${name}@${tested[release]} (${error?.message ?? stderr.trim().split("\n")[0] ?? status})` };
}
