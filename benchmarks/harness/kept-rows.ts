/** A result file made a row at a time: a benchmark that takes an hour can be run in parts, each on a quiet machine. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { machine } from "./machine.ts";

export type KeptRow = Readonly<Record<string, string | number>>;

/** Puts `row` where the row is that has the same `keys`; its columns go over those that are there. `order` is that of the first key's values. */
export function keepRow(
  path: string,
  {
    subject,
    command,
    keys,
    order,
  }: { readonly subject: string; readonly command: string; readonly keys: readonly [string, ...string[]]; readonly order: readonly string[] },
  row: KeptRow,
): void {
  const kept = existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as { readonly rows: readonly KeptRow[] }) : { rows: [] };
  const same = (other: KeptRow) => keys.every((key) => other[key] === row[key]);
  const all = [...kept.rows.filter((other) => !same(other)), { ...kept.rows.find(same), ...row }];
  all.sort((a, b) => order.indexOf(String(a[keys[0]])) - order.indexOf(String(b[keys[0]])));
  writeFileSync(path, `${JSON.stringify({ ...kept, subject, command, machine: machine(tmpdir()), rows: all }, undefined, 2)}\n`);
}
