/**
 * Where a server for tests comes from. Tried in this order, the first that works is taken, and the search is made once in a process:
 *
 *     1. its URL in the environment (TRESTLE_TEST_REDIS_URL): that server is used, and never stopped or paused
 *     2. its program on this machine: named by TRESTLE_REDIS_BIN, brought by npm, in PATH, where systems put it
 *     3. Debian's package, when root on Debian and TRESTLE_TEST_INSTALL is not `no`: apt-get, with a line on stderr. Services are not started
 *     4. a container engine (docker, podman), on Linux: the same program with the same arguments out of an image
 *
 * When nothing works the answer is a reason, for the `skip` of a test.
 */
import { execFile, spawn } from "node:child_process";
import { accessSync, constants, existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";

export interface Searched {
  /** As people call it: `Redis`. */
  readonly name: string;
  /** Holds a URL, when somebody runs one; empty when that makes no sense. */
  readonly urlVariable: string;
  /** Holds the path of the program, or of the folder with its programs. */
  readonly pathVariable: string;
  readonly program: string;
  /** Paths or folders beyond PATH, the best first. */
  readonly places?: () => Promise<readonly string[]> | readonly string[];
  readonly debianPackages: readonly string[];
  /** An image that holds the program, and the program's path in it. Without one no container is tried. */
  readonly image?: { readonly name: string; readonly program: string };
}

export type Means =
  | { readonly kind: "url"; readonly url: string }
  | { readonly kind: "program"; readonly path: string }
  | { readonly kind: "container"; readonly engine: string; readonly image: string; readonly program: string }
  | { readonly kind: "none"; readonly reason: string };

const run = promisify(execFile);

export async function findProgram(searched: Searched, environment: Readonly<Record<string, string | undefined>> = process.env): Promise<Means> {
  const url = environment[searched.urlVariable];
  if (url !== undefined && url !== "") return { kind: "url", url };

  const here = await onThisMachine(searched, environment);
  if (here !== undefined) return { kind: "program", path: here };

  const refused = await install(searched, environment);
  if (refused === undefined) {
    const installed = await onThisMachine(searched, environment);
    if (installed !== undefined) return { kind: "program", path: installed };
  }

  const engine = searched.image ? await containerEngine(environment) : { reason: "" };
  if (searched.image && engine.path !== undefined)
    return { kind: "container", engine: engine.path, image: searched.image.name, program: searched.image.program };
  const tried = [
    searched.urlVariable && `${searched.urlVariable} is not set`,
    `no ${searched.program} in ${searched.pathVariable} or PATH`,
    refused ?? "its package holds no such program",
    engine.reason,
  ];
  return { kind: "none", reason: `no ${searched.name}: ${tried.filter((text) => text !== "").join(", ")}` };
}

async function onThisMachine(
  { program, pathVariable, places }: Searched,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<string | undefined> {
  const named = environment[pathVariable];
  const folders = (environment["PATH"] ?? "").split(delimiter);
  // Servers live in sbin, which people's PATH often lacks.
  const candidates = named ? [named] : [...((await places?.()) ?? []), ...folders, "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin"];
  return candidates.flatMap((place) => [join(place, program), place]).find((path) => path.endsWith(program) && isExecutable(path));
}

/** Why Debian's package was not installed; `undefined` when it was. */
async function install({ name, debianPackages }: Searched, environment: Readonly<Record<string, string | undefined>>): Promise<string | undefined> {
  if (environment["TRESTLE_TEST_INSTALL"] === "no") return "TRESTLE_TEST_INSTALL is no";
  if (process.getuid?.() !== 0 || !existsSync("/etc/debian_version")) return "not root on Debian";
  process.stderr.write(`No ${name} yet: apt-get install ${debianPackages.join(" ")}\n`);
  // A test needs the program, not a service on its usual port. This is Debian's own way to say so; the file goes again however this ends.
  // One at a time: of two test files that lack the same program, the second finds it there.
  const script = `
    exec 9> /tmp/trestle-testing-install.lock; flock 9
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then trap 'rm -f $policy' EXIT; printf '#!/bin/sh\\nexit 101\\n' > $policy; chmod +x $policy; fi
    get() { apt-get -qq -o DPkg::Lock::Timeout=120 "$@"; }
    get install -y --no-install-recommends "$@" || { get update && get install -y --no-install-recommends "$@"; }`;
  const code = await new Promise<number | string | null>((resolve) => {
    const child = spawn("sh", ["-c", script, "sh", ...debianPackages], {
      stdio: ["ignore", "ignore", "inherit"],
      env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
      timeout: 300_000,
    });
    child.on("error", (error) => resolve(error.message));
    child.on("exit", (exitCode, signal) => resolve(exitCode ?? signal));
  });
  return code === 0 ? undefined : `apt-get install ${debianPackages.join(" ")} failed (${code})`;
}

async function containerEngine(environment: Readonly<Record<string, string | undefined>>): Promise<{ readonly path?: string; readonly reason: string }> {
  if (process.platform !== "linux") return { reason: "containers are used on Linux only" };
  let reason = "no container engine";
  for (const engine of ["docker", "podman"]) {
    const path = (environment["PATH"] ?? "")
      .split(delimiter)
      .map((folder) => join(folder, engine))
      .find(isExecutable);
    if (path === undefined) continue;
    try {
      // It has to answer: a client without its engine is common.
      await run(path, ["version", "--format", "{{.Server.Version}}"], { timeout: 10_000 });
      return { path, reason: "" };
    } catch {
      reason = `${engine} does not answer`;
    }
  }
  return { reason };
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return path !== "";
  } catch {
    return false;
  }
}
