import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { queue } from "./index.ts";
import { memoryStore, runNode } from "./testing.ts";

const Welcome = z.object({ to: z.string() });
const Bill = z.object({ to: z.string(), amount: z.number() });

test("each type of message has its handler; keys, layers and metrics see the type", async () => {
  const on = await memoryStore();
  const seen: string[] = [];
  const mail = queue(
    "mail",
    {
      messages: { welcome: Welcome, bill: Bill },
      key: ({ data }) => data.to,
      around: [(message, next) => (seen.push(`layer ${message.type}`), next())],
    },
    {
      welcome: ({ to }) => void seen.push(`welcome ${to}`),
      bill: ({ to, amount }) => void seen.push(`bill ${to} ${amount}`),
    },
  );
  const node = await runNode([mail], on);

  await node.commit({ mail }, ({ mail }) => {
    mail.send.welcome({ to: "ada" });
    mail.send.bill({ to: "ada", amount: 7 }, { priority: "high" });
  });
  await node.idle();

  assert.deepEqual(seen, ["layer welcome", "welcome ada", "layer bill", "bill ada 7"]);
  await node.stop();
});

test("a message is checked by the schema of its type as it is sent", async () => {
  const on = await memoryStore();
  const mail = queue("mail", { messages: { welcome: Welcome, bill: Bill } }, { welcome: () => undefined, bill: () => undefined });
  const node = await runNode([mail], on);

  await assert.rejects(
    node.commit({ mail }, ({ mail }) => void mail.send.bill({ to: "ada" } as never)),
    /message bill of queue "mail"/,
  );
  await node.stop();
});

test("a stored message of a type that is gone, or of none, is kept for a person without another try", async () => {
  const on = await memoryStore();
  const before = queue("mail", { messages: { welcome: Welcome, reminder: Welcome } }, { welcome: () => undefined, reminder: () => undefined });
  const plain = queue("mail", { input: Welcome }, () => undefined);
  const after = queue("mail", { messages: { welcome: Welcome } }, { welcome: () => undefined });
  const sender = await runNode([], on);
  await sender.commit({ before }, ({ before }) => {
    before.send.reminder({ to: "ada" });
    before.send.welcome({ to: "ada" });
  });
  await sender.commit({ plain }, ({ plain }) => void plain.send({ to: "ada" }));
  const node = await runNode([after], on);
  await node.idle();

  const dead = await on.store.read.jobs({ queue: "mail", limit: 10 });
  assert.deepEqual(
    dead.map(({ state, attempt, error }) => [state, attempt, error?.split(":")[0]]),
    [
      ["dead", 1, "queue.unknown-type"],
      ["dead", 1, "queue.unknown-type"],
    ],
  );
  await sender.stop();
  await node.stop();
});

test("a type without a handler is told where the queue is declared", () => {
  assert.throws(
    () => queue("mail", { messages: { welcome: Welcome, bill: Bill } }, { welcome: () => undefined } as never),
    /no handler for messages of the type bill/,
  );
});
