/** What is committed: one event on a new stream, one job, one record under a random key, 200 B each; the record and the stream must be absent. */
import { systemClock, systemRandom, uuidv7Ids } from "trestle/kernel";
import { randomKey } from "../harness/store-file.ts";

const ids = uuidv7Ids(systemClock, systemRandom);
export const payload = Buffer.alloc(200, "x");

export interface Order {
  readonly id: string;
  readonly key: string;
  readonly stream: string;
  readonly event: string;
  readonly job: string;
}

export function nextOrder(): Order {
  const job = ids.next();
  return { id: ids.next(), key: randomKey(), stream: `orders//${job}`, event: ids.next(), job };
}
