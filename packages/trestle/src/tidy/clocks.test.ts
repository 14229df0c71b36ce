import { test } from "node:test";
import { atLeast, coreFolder, lines, none, partsOf, sources, split } from "./repository.ts";
import assert from "node:assert/strict";

// Each name stands for a reading of the machine's clock or for chance; the kernel's Clock, Random and Ids replace it.
const banned = [
  /\bnew Date\b(?!\s*\(\s*[^\s)])/, // with an argument it converts a time somebody else read
  /\bDate\s*\.\s*now\b/,
  /(?<![.\w]|new )Date\s*\(/,
  /\bperformance\s*\.\s*(now|timeOrigin)\b/,
  /(?<![.\w#])(setTimeout|setInterval|setImmediate|queueMicrotask)\b/,
  /\bglobalThis\s*\.\s*(setTimeout|setInterval|setImmediate|Date|performance)\b/,
  /\bMath\s*\.\s*random\b/,
  /\b(randomUUID|randomBytes|randomInt|getRandomValues|randomFillSync|randomFill)\b/,
  /\bprocess\s*\.\s*(hrtime|uptime)\b/,
  /\bAbortSignal\s*\.\s*timeout\b/,
];
const bannedModules = /\bfrom\s*"((?:node:)?timers(?:\/promises)?)"|\{[^}]*\b(performance)\b[^}]*\}\s*from\s*"node:perf_hooks"/;

function offences(code: string, uncommented: string): string[] {
  const found: string[] = [];
  for (const { number, text } of lines(code)) {
    for (const pattern of banned) {
      const match = pattern.exec(text);
      if (match) found.push(`${number}: ${match[0]}`);
    }
  }
  for (const { number, text } of lines(uncommented)) {
    const match = bannedModules.exec(text);
    if (match) found.push(`${number}: ${match[1] ?? match[2]}`);
  }
  return found;
}

test("only the kernel reads a clock or rolls a die", () => {
  // Live tests and the programs they start (testing/) run against the real clock; *.types.ts is compiled and never run; one file names them to put others in their place.
  const exempt = (path: string) =>
    /simulation\/virtual-globals(\.test)?\.ts$|\.(live\.test|bench|types)\.ts$|\/src\/(.*\/)?testing\//.test(path) ||
    ["kernel", "tidy"].includes(coreFolder(path) ?? "");
  const inspected = sources.filter((path) => !exempt(path));
  const found = inspected.flatMap((path) => {
    const { code, uncommented } = partsOf(path);
    return offences(code, uncommented).map((offence) => `${path}:${offence}`);
  });

  atLeast(80, inspected.length, "sources outside the kernel");
  none(found, "clocks and chance come from the kernel (Clock, Random, Ids):");
});

test("the ban knows a clock when it sees one, and lets methods of the same name be", () => {
  const caught = [
    "const t = Date.now();",
    "new Date()",
    "await setTimeout(5)",
    "setImmediate(f)",
    "Math.random()",
    "crypto.randomUUID()",
    "performance.now()",
    "AbortSignal.timeout(5)",
    'import { setTimeout as s } from "node:timers/promises";',
  ];
  const spared = [
    "value instanceof Date",
    "const d: Date = x;",
    "new Date(atMs).toISOString()",
    "request.setTimeout(5)",
    "// Date.now()",
    '"setTimeout"',
    "clock.after(5, f)",
  ];

  for (const text of caught) assert.notDeepEqual(offences(split(text).code, split(text).uncommented), [], text);
  for (const text of spared) assert.deepEqual(offences(split(text).code, split(text).uncommented), [], text);
});
