// How do I make a POST safe to repeat? Say `idempotent`: the answer is stored in the commit of its effect.
import { app, created, get, post, records, refuse, service, start, type StartOptions } from "trestle";
import { z } from "zod";

const Account = z.string().regex(/^[a-z]+$/);

export const accounts = records("accounts", {
  key: Account,
  value: z.object({ cents: z.int() }),
  seed: [
    ["ada", { cents: 10_000 }],
    ["grace", { cents: 0 }],
  ],
});

export const bank = service(
  "bank",
  { uses: { accounts } },
  {
    transfer: post(
      "/transfers",
      {
        body: z.object({ from: Account, to: Account, cents: z.int().positive() }),
        idempotent: true, // asks for an Idempotency-Key; the same key gets the same answer, another payload under it 422
        refuses: { "no-such-account": 404, "not-enough": 409 },
      },
      async ({ body: { from, to, cents } }, { accounts }, { newId }) => {
        const payer = await accounts.get(from); // read here: a precondition of the commit, so two transfers cannot both spend it
        const payee = await accounts.get(to);
        if (!payer || !payee) return refuse("no-such-account");
        if (payer.cents < cents) return refuse("not-enough", { cents: payer.cents });
        accounts.put(from, { cents: payer.cents - cents });
        accounts.put(to, { cents: payee.cents + cents });
        return created({ id: newId(), from, to, cents });
      },
    ),
    balance: get(
      "/accounts/:name",
      { params: z.object({ name: Account }), refuses: { "no-such-account": 404 } },
      async ({ params }, { accounts }) => (await accounts.get(params.name)) ?? refuse("no-such-account"),
    ),
  },
);

export const bankApp = app("bank", [bank]);

export const main = (options: StartOptions = {}) => start(bankApp, options);

if (import.meta.main) console.log((await main({ port: 3000 })).url);
