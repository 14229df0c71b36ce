import assert from "node:assert/strict";
import { test } from "node:test";
import { main } from "./transfer.ts";

test("[MSG-12] a transfer asked for three times moves the money once and answers the same each time", async () => {
  await using node = await main({ store: "memory:", port: 0 });
  const ask = (cents: number, key: string | undefined = "k1") =>
    node.fetch(
      new Request(`${node.url}/transfers`, {
        method: "POST",
        headers: { "content-type": "application/json", ...(key === "" ? {} : { "idempotency-key": key }) },
        body: JSON.stringify({ from: "ada", to: "grace", cents }),
      }),
    );

  const answers = [await ask(2_500), await ask(2_500), await ask(2_500)];
  const bodies = await Promise.all(answers.map((answer) => answer.text()));
  const otherPayload = await ask(1);
  const withoutKey = await ask(1, "");
  const balance = await (await node.fetch(new Request(`${node.url}/accounts/ada`))).json();

  assert.deepEqual(
    answers.map(({ status }) => status),
    [201, 201, 201],
  );
  assert.equal(new Set(bodies).size, 1);
  assert.equal(otherPayload.status, 422);
  assert.equal(withoutKey.status, 400);
  assert.deepEqual(balance, { cents: 7_500 });
});
