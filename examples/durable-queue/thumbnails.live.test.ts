import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { open } from "trestle";
import { main, thumbnails } from "./thumbnails.ts";

test("each job is done, whatever fails on the way, and what cannot be done is kept for a person", async () => {
  const directory = mkdtempSync(join(tmpdir(), "trestle-thumbnails-"));
  const store = `sqlite:${directory}/thumbnails.db` as const;

  const depth = await main(store);
  {
    await using made = await open(thumbnails, { store });
    const { items } = await made.list({ limit: 10 });
    assert.deepEqual(
      items.map(({ width, attempts }) => [width, attempts]).sort((one, other) => Number(one[0]) - Number(other[0])),
      [
        [200, 2],
        [400, 2],
      ],
    );
  }

  assert.equal(depth.dead, 1);
  rmSync(directory, { recursive: true });
});
