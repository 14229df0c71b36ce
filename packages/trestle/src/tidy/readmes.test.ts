import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { allFiles, atLeast, exists, none, read, root } from "./repository.ts";

/** The blocks of a page that start with ```ts run. */
function runnable(path: string): string[] {
  return [...read(path).matchAll(/^```ts run\s*\n([\s\S]*?)^```/gm)].map((match) => match[1] as string);
}

const pages = allFiles.filter((path) => path.endsWith(".md"));
const examples = pages.flatMap((path) => runnable(path).map((text, index) => ({ path, index, text })));

test("every example in a README runs to its end", { timeout: 170_000 }, async () => {
  // Inside the repository, so that `trestle` and its dependencies resolve as they do for a reader.
  mkdirSync(join(root, ".cache"), { recursive: true });
  const folder = mkdtempSync(join(root, ".cache", "readmes-"));
  const failed: string[] = [];
  try {
    const queue = [...examples];
    const lane = async () => {
      for (let example = queue.shift(); example; example = queue.shift()) {
        const { path, index, text } = example;
        const file = join(folder, `${path.replaceAll(/[^\w]/g, "-")}-${index}.ts`);
        // A module's own page imports its neighbours: "./index.ts".
        writeFileSync(
          file,
          text.replaceAll(/(from\s+|import\()"(\.{1,2}\/)/g, (_, keyword: string, dots: string) => `${keyword}"${join(root, path, "..")}/${dots}`),
        );
        const answer = await run(file, folder);
        if (answer !== "") failed.push(`${path}, example ${index + 1}:\n${answer}`);
      }
    };
    await Promise.all([lane(), lane()]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }

  none(failed, "these do not run:");
  atLeast(10, examples.length, "examples marked ```ts run");
});

function run(file: string, cwd: string): Promise<string> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", file], {
      cwd,
      env: { ...process.env, NODE_DISABLE_COMPILE_CACHE: "1" }, // the files are new each time: their compiled form is not worth keeping
      stdio: ["ignore", "pipe", "pipe"],
      timeout: 60_000,
      killSignal: "SIGKILL",
    });
    const output: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => output.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => output.push(chunk));
    child.on("exit", (code, signal) =>
      resolve(
        code === 0
          ? ""
          : `${signal === null ? `exit code ${code}` : `ended by ${signal}: it has to end within 60 s`}\n${Buffer.concat(output).toString("utf8").trim()}`,
      ),
    );
  });
}

test("the README of the repository has an example that runs", () => {
  assert.ok(exists("README.md"));
  assert.ok(runnable("README.md").length > 0);
});

test("every relative link in a page leads somewhere", () => {
  const wrong: string[] = [];
  let inspected = 0;
  for (const path of pages) {
    const prose = read(path)
      .replaceAll(/^```[\s\S]*?^```/gm, "")
      .replaceAll(/`[^`\n]*`/g, "");
    for (const match of prose.matchAll(/\]\(([^)\s#]+)(?:#[^)\s]*)?\)/g)) {
      const target = match[1] as string;
      if (/^[a-z]+:/.test(target)) continue;
      inspected++;
      if (!exists(join(path, "..", target))) wrong.push(`${path}: ${target}`);
    }
  }

  atLeast(10, inspected, "links");
  none(wrong, "broken links:");
});

test("every command a page tells to type exists and finds what it is for", () => {
  const { scripts = {} } = JSON.parse(read("package.json")) as { scripts?: Readonly<Record<string, string>> };
  const tests = allFiles.filter((path) => path.endsWith(".test.ts"));
  const wrong: string[] = [];
  let inspected = 0;
  for (const path of pages) {
    for (const match of read(path).matchAll(/npm (?:run ([\w-]+)|(test|start))(?: -- ([^`\n&|]*))?/g)) {
      const name = (match[1] ?? match[2]) as string;
      const words = (match[3] ?? "").split(/\s+/).filter((word) => word !== "" && !word.startsWith("-") && !/[<>[\]]/.test(word));
      inspected++;
      if (scripts[name] === undefined) wrong.push(`${path}: ${match[0]}: package.json has no script ${name}`);
      if (name === "test")
        wrong.push(
          ...words.filter((word) => !tests.some((file) => file.includes(word))).map((word) => `${path}: ${match[0]}: no test file's path contains ${word}`),
        );
      if (name === "bench")
        wrong.push(
          ...words
            .slice(0, 1)
            .filter((word) => !exists(`benchmarks/${word}/bench.ts`) && !exists(`benchmarks/peers/${word.replace(/-peers$/, "")}/bench.ts`))
            .map((word) => `${path}: ${match[0]}: there is no benchmarks/${word}/bench.ts`),
        );
    }
  }

  atLeast(30, inspected, "commands");
  none(wrong, "commands that lead nowhere:");
});
