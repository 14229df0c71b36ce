/** One PostgreSQL for a measurement, and what is committed to it: one event on a new stream, one job, one record, 200 B each. */
import { postgres, type PostgresServer } from "@trestle/testing";
import { systemClock, systemRandom, uuidv7Ids } from "trestle/kernel";

export const startPostgres = (): Promise<PostgresServer> => postgres({ settings: { shared_buffers: "256MB" } });
const ids = uuidv7Ids(systemClock, systemRandom);
export const newId = (): string => ids.next();
export const payload = Buffer.alloc(200, "x");
