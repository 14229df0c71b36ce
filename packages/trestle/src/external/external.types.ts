/** Compile-only: what is inferred for externals, settings and tables, and what must not compile. */
import { z } from "zod";
import type { Handle, View } from "../component/index.ts";
import { throttle } from "../limits/index.ts";
import { adaptiveThrottle, pipeline, type Policy } from "../resilience/index.ts";
import { setting } from "../setting/index.ts";
import { sql } from "../sql/index.ts";
import { external, mutation, query, type OnlyInADurableHandler } from "./index.ts";
import type { PolicyNode } from "./policy.ts";

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false;
declare function same<A, B>(...proof: Equal<A, B> extends true ? [] : [{ expected: B; got: A }]): void;

const airline = external("airline", { url: setting("AIRLINE_URL", { default: "https://air.example" }), timeout: "2s", retry: { attempts: 4, budget: "10%" }, breaker: { cooldown: "10s" } }, {
  seats: query({ input: z.object({ flight: z.string() }), returns: z.number() }, ({ flight }, wire) => wire.get(`/flights/${flight}/seats`)),
  book: mutation({ input: z.object({ flight: z.string() }), returns: z.object({ ref: z.string() }), key: ({ flight }) => flight, lookup: ({ flight }, wire) => wire.find(`/bookings/${flight}`), outcome: "may-repeat" }, (input, wire) => wire.post("/bookings", input)),
});
declare const durable: Handle<typeof airline>;
declare const reading: View<typeof airline>;
same<ReturnType<typeof durable.seats>, Promise<number>>();
same<ReturnType<typeof durable.book>, Promise<{ ref: string }>>();
same<typeof reading.book, OnlyInADurableHandler>();
same<ReturnType<typeof reading.seats>, Promise<number>>();

// @ts-expect-error an answer of the wrong shape is parsed, not assumed
external("ad", {}, { price: query({ input: z.object({}), returns: z.number() }, async () => 1) }) satisfies { price: () => Promise<string> };
// @ts-expect-error the input has a flight
void durable.book({ plane: "1" });
// @ts-expect-error there is no such operation
void durable.fly;
// @ts-expect-error a share is a percentage
external("ae", { retry: { budget: 0.2 } }, {});

declare const port: Handle<ReturnType<typeof portSetting>>;
const portSetting = () => setting("PORT", { schema: z.coerce.number<string>(), default: "80" });
same<typeof port.value, number>();
// @ts-expect-error the default is what the schema takes
setting("PORT", { schema: z.string(), default: 80 });

const books = sql("books", { migrations: "./migrations" });
declare const ledger: Handle<typeof books>;
declare const reader: View<typeof books>;
same<Awaited<ReturnType<ReturnType<typeof ledger.rows<z.ZodObject<{ n: z.ZodNumber }>>>>>, readonly { n: number }[]>();
// @ts-expect-error a view does not write
reader.run`delete from ledger`;
// @ts-expect-error a date is not something SQL knows
ledger.run`insert into ledger values (${new Date()})`;

// The codes of its gates are those of the policy that is made; any of them does.
const paced = (node: PolicyNode) => pipeline(throttle({ ...node, rate: "50/s" }), adaptiveThrottle(node));
same<ReturnType<typeof paced>, Policy<"limiter.exceeded" | "throttle.declined">>();
external("ap", { policy: paced }, {});
// @ts-expect-error a policy has state: it is made for each node, not given
external("aq", { policy: throttle({ rate: "50/s" }) }, {});
// @ts-expect-error what is made is a policy
external("ar", { policy: () => ({ rate: "50/s" }) }, {});

external("as", { hedge: { after: "p95", tries: 3 } }, { look: query({ input: z.object({}), returns: z.number() }, async () => 1) });
// @ts-expect-error a percentile that is known
external("at", { hedge: { after: "p75" } }, {});
// @ts-expect-error its budget is that of the retries
external("au", { hedge: { after: "p95", budget: undefined } }, {});
