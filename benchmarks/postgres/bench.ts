/** Commits on PostgreSQL against the transaction that people write statement by statement: `npm run bench -- postgres`. */
import { missing } from "@trestle/testing";
import { runBenchmark } from "../harness/benchmark.ts";

const reason = await missing("postgres", { managed: true });
const variants = ["naive", "trestle"].map((name) => ({ name, module: new URL(`./${name}.ts`, import.meta.url) }));
await runBenchmark({
  subject: "postgres",
  loads: [1, 16, 64],
  variants: reason === false ? variants : [],
  ratios: [1, 16, 64].map((load) => ({ over: "trestle", under: "naive", load })),
  skipped: reason === false ? [] : [reason],
});
