import assert from "node:assert/strict";
import { test } from "node:test";
import { durationMs, Fault, integerWithin, numberWithin, oneOf, positiveMs, ratePerSecond, shareOf, sizeBytes } from "./index.ts";

test("a duration is milliseconds or a text with its unit", () => {
  assert.deepEqual(
    [
      durationMs(0, "x"),
      durationMs(1.5, "x"),
      durationMs("250ms", "x"),
      durationMs("1.5s", "x"),
      durationMs("2m", "x"),
      durationMs("1h", "x"),
      durationMs("1d", "x"),
    ],
    [0, 1.5, 250, 1_500, 120_000, 3_600_000, 86_400_000],
  );
});

test("rates, sizes, percentages and ranges are read", () => {
  assert.deepEqual([ratePerSecond("50/s", "x"), ratePerSecond("30/m", "x"), ratePerSecond("0.5/s", "x")], [50, 0.5, 0.5]);
  assert.deepEqual(
    [sizeBytes(7, "x"), sizeBytes("10MB", "x"), sizeBytes("1.5kB", "x"), sizeBytes("3B", "x"), sizeBytes("1GB", "x")],
    [7, 10_000_000, 1_500, 3, 1_000_000_000],
  );
  assert.deepEqual([shareOf("20%", "x"), shareOf("0%", "x"), shareOf("12.5%", "x"), shareOf("100%", "x")], [0.2, 0, 0.125, 1]);
  assert.deepEqual([integerWithin(3, "x", { least: 1, most: 3 }), numberWithin(0.5, "x", { least: 0, most: 1 })], [3, 0.5]);
});

const cyclic: { self?: unknown } = {};
cyclic.self = cyclic;
const hostile = [
  undefined,
  null,
  "",
  " 5s",
  "5 s",
  "5S",
  "-5s",
  "1e3s",
  "5s\n",
  "٣s",
  -1,
  Number.NaN,
  Infinity,
  `${"9".repeat(400)}d`,
  true,
  10n,
  Symbol("s"),
  {},
  ["5s"],
  cyclic,
  Object.create(null),
  {
    toJSON: () => {
      throw new Error("no");
    },
  },
  () => 5,
  "x".repeat(10_000),
];

for (const [name, read, code] of [
  ["duration", durationMs, "quantity.not-a-duration"],
  ["rate", ratePerSecond, "quantity.not-a-rate"],
  ["size", sizeBytes, "quantity.not-a-size"],
  ["percentage", shareOf, "quantity.not-a-percentage"],
] as const) {
  test(`whatever is no ${name} is a fault that names the option, the rule and the value, and nothing else`, () => {
    for (const value of [...hostile, ...(name === "rate" ? ["0/s", ["5/s"]] : name === "percentage" ? ["101%", "5"] : [])]) {
      assert.throws(
        () => read(value as never, "retry.upTo"),
        (thrown: unknown) => {
          assert.ok(Fault.is(thrown, code), `${String(name)}: ${String(thrown)}`);
          assert.match(thrown.message, /^retry\.upTo must be .* got /s);
          assert.ok(thrown.message.length < 400);
          assert.ok(thrown.remedy.length > 0);
          return true;
        },
      );
    }
  });
}

test("an option outside its range is a fault that names the range and the value", () => {
  for (const value of [0, 4, 1.5, Number.NaN, "2", undefined, 2n, cyclic])
    assert.throws(
      () => integerWithin(value as never, "attempts", { least: 1, most: 3 }),
      (thrown: unknown) => Fault.is(thrown, "option.out-of-range") && /attempts must be an integer from 1 to 3, got /.test(thrown.message),
    );
  for (const value of [-0.1, 1.1, Number.NaN, "0.5"])
    assert.throws(
      () => numberWithin(value as never, "failureRate", { least: 0, most: 1 }),
      (thrown: unknown) => Fault.is(thrown, "option.out-of-range") && /failureRate must be a number from 0 to 1, got /.test(thrown.message),
    );
});

test("a word that is none of those known, and a duration of nothing, are faults that name option, rule and value", () => {
  assert.equal(oneOf("fifo", "order", ["fifo", "lifo"]), "fifo");
  assert.equal(positiveMs("1s", "timeout"), 1_000);
  for (const [make, said] of [
    [() => oneOf("Fifo", "order", ["fifo", "lifo"]), /^order must be "fifo" or "lifo", got "Fifo"$/],
    [() => oneOf(cyclic as never, "per", ["key"]), /^per must be "key", got /],
    [() => positiveMs("0ms", "timeout"), /^timeout must be above 0, got "0ms"$/],
  ] as const)
    assert.throws(make, (thrown: unknown) => Fault.is(thrown, "option.out-of-range") && said.test(thrown.message) && thrown.remedy.length > 0);
});
