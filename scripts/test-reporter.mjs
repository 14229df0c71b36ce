/**
 * What one test file reports, as lines of JSON appended to the file named by TRESTLE_TEST_EVENTS. Each line is written at
 * once and synchronously: whatever a test does to its process, the lines before it are there.
 * Node's runner calls this generator; `scripts/test.mjs` reads the lines.
 */
import { appendFileSync } from "node:fs";
import { inspect } from "node:util";

const events = process.env.TRESTLE_TEST_EVENTS;
// Tests start processes of their own; those must not write here.
delete process.env.TRESTLE_TEST_EVENTS;

export default async function* report(source) {
  for await (const { type, data } of source) {
    const line = describe(type, data);
    if (line) appendFileSync(events, `${JSON.stringify(line)}\n`);
  }
  yield "";
}

function describe(type, data) {
  switch (type) {
    case "test:start":
    case "test:dequeue":
      return { type, name: data.name, nesting: data.nesting };
    case "test:pass":
    case "test:fail": {
      const error = data.details.error;
      return {
        type,
        name: data.name,
        nesting: data.nesting,
        kind: data.details.type,
        durationMs: data.details.duration_ms,
        line: data.line,
        skip: data.skip,
        todo: data.todo,
        // A parent that failed only because a test inside it did says nothing new.
        inside: error?.failureType === "subtestsFailed",
        error: error === undefined ? undefined : inspect(error.cause ?? error, { depth: 6, breakLength: 140, maxStringLength: 4_000 }),
      };
    }
    case "test:diagnostic":
      return /^(tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) /.test(data.message) ? undefined : { type, message: data.message };
    case "test:summary":
      return { type };
    default:
      return undefined;
  }
}
