/**
 * `node scripts/complete-lock.mjs [--check]`: adds to package-lock.json the platform packages that npm left out, so that
 * `npm ci` works on every platform. npm leaves one out when the registry it asked does not serve it, and then refuses its
 * own lockfile with "Missing: … from lock file". An entry added here has version, os and cpu; a registry that serves the
 * package proves its integrity by signature, and the next `npm install` there writes the hash down.
 * Run it after every `npm install`; a test fails until that is done.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./setup.mjs";

const file = join(root, "package-lock.json");
const lock = JSON.parse(readFileSync(file, "utf8"));
const added = [];

for (const { optionalDependencies = {} } of Object.values(lock.packages)) {
  for (const [name, version] of Object.entries(optionalDependencies)) {
    const path = `node_modules/${name}`;
    if (lock.packages[path] !== undefined) continue;
    const { os, cpu, libc } = platformOf(name);
    lock.packages[path] = { version, cpu, dev: true, ...(libc && { libc }), optional: true, os };
    added.push(name);
  }
}

if (process.argv.includes("--check")) {
  for (const name of added) process.stdout.write(`${name}\n`);
  process.exitCode = added.length > 0 ? 1 : 0;
} else if (added.length > 0) {
  const names = Object.keys(lock.packages).sort((a, b) => a.localeCompare(b, "en"));
  lock.packages = Object.fromEntries(names.map((name) => [name, lock.packages[name]]));
  writeFileSync(file, `${JSON.stringify(lock, null, 2)}\n`);
  process.stderr.write(`added ${added.length} platform packages to package-lock.json\n`);
}

/** `@scope/binding-linux-arm64-musl` → { os: ["linux"], cpu: ["arm64"], libc: ["musl"] } */
function platformOf(name) {
  const parts = name.split(/[-/]/);
  const os = parts.find((part) => ["aix", "android", "darwin", "freebsd", "linux", "netbsd", "openbsd", "openharmony", "sunos", "win32"].includes(part));
  const cpu = parts.find((part) => ["arm", "arm64", "ia32", "loong64", "mips64el", "ppc64", "riscv64", "s390x", "x64"].includes(part));
  if (os === undefined || cpu === undefined)
    throw new Error(
      `optional dependency ${name} is missing in package-lock.json and its name does not tell its platform: run npm install where the registry serves it`,
    );
  const libc = parts.includes("musl") ? ["musl"] : parts.some((part) => part.startsWith("gnu")) ? ["glibc"] : undefined;
  return { os: [os], cpu: [cpu], libc };
}
