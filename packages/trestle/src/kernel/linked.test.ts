import assert from "node:assert/strict";
import { test } from "node:test";
import { isAlone, Linked, seededRandom, unlink, type Link } from "./index.ts";

test("a list is that of an array, whatever is appended and taken out", () => {
  const random = seededRandom("linked");
  const head = new Linked();
  const entries = Array.from({ length: 20 }, () => new Linked());
  const known: Linked[] = [];
  for (let step = 0; step < 5_000; step++) {
    const entry = entries[random.uint32() % entries.length] as Linked;
    const at = known.indexOf(entry);
    if (at < 0) {
      head.append(entry);
      known.push(entry);
    } else {
      unlink(entry);
      unlink(entry);
      known.splice(at, 1);
    }
    const there: Link[] = [];
    for (let next = head.next; next !== head; next = next.next) there.push(next);
    assert.ok(there.length === known.length && there.every((one, i) => one === known[i]));
    assert.equal(isAlone(head), known.length === 0);
  }
});
