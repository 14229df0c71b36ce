import assert from "node:assert/strict";
import { test } from "node:test";

const { rate, duration, age, compact, percent, plural, milliseconds } = (await import(new URL("./page/format.js", import.meta.url).href)) as Record<
  string,
  (value: unknown, more?: string) => unknown
>;

function table(format: ((value: unknown, more?: string) => unknown) | undefined, rows: readonly (readonly [unknown, unknown])[]): void {
  for (const [value, text] of rows) assert.equal(format?.(value, "job"), text, String(value));
}

test("a rate is read at a glance, also a very small one", () => {
  table(rate, [
    [0, "0"],
    [NaN, "0"],
    [0.004, "1/min"],
    [0.05, "3/min"],
    [0.24, "0.2/s"],
    [2, "2/s"],
    [12.4, "12/s"],
    [1_234, "1.2k/s"],
    [2_000_000, "2M/s"],
  ]);
});

test("durations and ages have the unit a person would choose", () => {
  table(duration, [
    [undefined, "–"],
    [0.04, "0 ms"],
    [0.44, "0.4 ms"],
    [12.3, "12 ms"],
    [1_240, "1.2 s"],
    [61_000, "1 min"],
  ]);
  table(age, [
    [-5, "0 s"],
    [59_999, "59 s"],
    [120_000, "2 min"],
    [3_600_000, "1 h"],
    [5_400_000, "1 h 30 min"],
    [90_000_000, "1 d 1 h"],
  ]);
});

test("counts and shares are short and never round a failure away", () => {
  table(compact, [
    [0, "0"],
    [999, "999"],
    [1_200, "1.2k"],
    [34_400, "34k"],
    [1_250_000, "1.3M"],
  ]);
  table(percent, [
    [0, "0 %"],
    [0.0002, "< 0.1 %"],
    [0.012, "1.2 %"],
    [0.5, "50 %"],
  ]);
  assert.equal(plural?.(1, "job"), "1 job");
  assert.equal(plural?.(1_200, "job"), "1,200 jobs");
});

test("a promise written as a duration is compared in milliseconds", () => {
  table(milliseconds, [
    ["300ms", 300],
    [250, 250],
    ["2s", 2_000],
    ["soon", undefined],
    [undefined, undefined],
  ]);
});
