/** `node examples/shop/payments/main.ts`: the payment provider on PAYMENTS_PORT (3001), its ledger under TRESTLE_DATA. */
import { runForeignProcess } from "../foreign/process.ts";
import { openPayments } from "./payments.ts";

await runForeignProcess({ portVariable: "PAYMENTS_PORT", defaultPort: 3001, open: openPayments });
