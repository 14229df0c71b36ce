/** `node examples/shop/mail/main.ts`: the mail sink on MAIL_PORT (3002), its ledger under TRESTLE_DATA. */
import { runForeignProcess } from "../foreign/process.ts";
import { openMailSink } from "./mail-sink.ts";

await runForeignProcess({ portVariable: "MAIL_PORT", defaultPort: 3002, open: openMailSink });
