import assert from "node:assert/strict";
import { test } from "node:test";
import { canteen, main } from "./votes.ts";

test("each vote counts once, in order, in a table that follows its topic", async () => {
  await using node = await main({ store: "memory:", port: 0 });
  const { vote, withdraw } = node.open(canteen);

  for (const voter of ["ada", "grace", "alan"]) await vote({ body: { dish: "pie", voter } });
  await vote({ body: { dish: "soup", voter: "ada" } });
  await withdraw({ body: { dish: "pie", voter: "alan" } });
  await node.idle();
  const standing = (await (await node.fetch(new Request(`${node.url}/standing`))).json()) as { items: { dish: string; count: number }[] };

  assert.deepEqual(
    standing.items.sort((one, other) => other.count - one.count),
    [
      { dish: "pie", count: 2 },
      { dish: "soup", count: 1 },
    ],
  );
});
