/**
 * Drives the shop in a closed loop and then asks whether the books agree.
 *
 *   npm run load -- --orders 2000 --concurrency 64 [--skus 1000] [--seed 1] [--url http://localhost:3000] [--json]
 *
 * The result goes to stdout, progress to stderr.
 * Exit codes: 0 the books agree, 1 they do not, 2 wrong options, 3 the shop cannot be reached.
 */
import { parseArgs } from "node:util";
import { LoadFault, runLoad, type LoadOptions, type LoadReport, type Progress } from "./closed-loop.ts";

// ---- saying ---------------------------------------------------------------------------------------------------------

function inWords({ orders, concurrency, skus, placed, ended, answers, unanswered, check: { counts, violations } }: LoadReport): string {
  const failed = [...unanswered, ...violations];
  return [
    `${orders} orders over ${skus} products, ${concurrency} at a time`,
    `placed    ${placed.perSecond}/s   p50 ${placed.p50Ms} ms   p99 ${placed.p99Ms} ms   max ${placed.maxMs} ms`,
    `ended     ${ended.perSecond}/s   ${counts.shipped} shipped, ${counts.cancelled} cancelled, ${counts.unfinished} unfinished`,
    `answers   ${Object.entries(answers)
      .map(([status, times]) => `${times} x ${status}`)
      .join(", ")}`,
    `ledgers   ${counts.captured} captured, ${counts.declined} declined, ${counts.mails} mails (${counts.mailedTwice} twice)`,
    failed.length === 0
      ? "the books agree"
      : `THE BOOKS DO NOT AGREE: ${failed.length} violations\n${failed
          .slice(0, 20)
          .map((line) => `  ${line}`)
          .join("\n")}`,
  ].join("\n");
}

function progressBar(): (progress: Progress) => void {
  const isTerminal = process.stderr.isTTY;
  let shownAtMs = 0;
  return ({ phase, done, of }) => {
    const nowMs = performance.now();
    if (done < of && nowMs - shownAtMs < (isTerminal ? 50 : 2_000)) return;
    shownAtMs = nowMs;
    const filled = Math.round((done / Math.max(1, of)) * 30);
    if (isTerminal) process.stderr.write(`\r${phase} ${"█".repeat(filled)}${"░".repeat(30 - filled)} ${done}/${of} ${done === of ? "\n" : ""}`);
    else process.stderr.write(`${phase} ${done}/${of}\n`);
  };
}

// ---- the command ----------------------------------------------------------------------------------------------------

function optionsFromCommandLine(): LoadOptions & { readonly json: boolean } {
  const { values } = parseArgs({
    options: {
      orders: { type: "string", default: "2000" },
      concurrency: { type: "string", default: "64" },
      skus: { type: "string" },
      seed: { type: "string", default: "1" },
      url: { type: "string", default: `http://localhost:${process.env["PORT"] ?? 3000}` },
      payments: { type: "string", default: `http://localhost:${process.env["PAYMENTS_PORT"] ?? 3001}` },
      mail: { type: "string", default: `http://localhost:${process.env["MAIL_PORT"] ?? 3002}` },
      json: { type: "boolean", default: false },
    },
  });
  const integer = (name: string, text: string, max: number) => {
    const value = Number(text);
    if (!Number.isInteger(value) || value < 1 || value > max) throw new LoadFault(`--${name} must be an integer from 1 to ${max}, not ${JSON.stringify(text)}`);
    return value;
  };
  return {
    url: values.url,
    paymentsUrl: values.payments,
    mailUrl: values.mail,
    json: values.json,
    orders: integer("orders", values.orders, 1_000_000),
    concurrency: integer("concurrency", values.concurrency, 1_024),
    skus: values.skus === undefined ? undefined : integer("skus", values.skus, 1_000),
    seed: integer("seed", values.seed, 2 ** 31),
  };
}

async function command(): Promise<number> {
  let options;
  try {
    options = optionsFromCommandLine();
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`);
    return 2;
  }
  try {
    const result = await runLoad({ ...options, onProgress: progressBar() });
    process.stdout.write(`${options.json ? JSON.stringify(result, undefined, 2) : inWords(result)}\n`);
    return result.check.violations.length + result.unanswered.length === 0 ? 0 : 1;
  } catch (error) {
    const why = error instanceof LoadFault ? error.message : `the shop at ${options.url}, its payments or its mail cannot be reached: ${String(error)}`;
    process.stderr.write(`${why}\n`);
    return error instanceof LoadFault ? 2 : 3;
  }
}

if (import.meta.main) process.exitCode = await command();
