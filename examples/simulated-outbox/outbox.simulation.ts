// What the outbox promises, and what may go wrong meanwhile: `npx trestle sim outbox.simulation.ts`.
import { always, model, scenario } from "trestle/simulation";
import type { App } from "trestle";
import { hasty, mailer, outbox, patient, shop } from "./outbox.ts";

const promises = (app: App) =>
  scenario(app, {
    uses: { shop, outbox },
    seeds: 50,
    for: "10s",
    outside: [
      model(mailer, {
        deliver: ({ id }, { memory }) => {
          always("a mail is sent once", !memory.has(id), { id });
          memory.set(id, true);
          return {};
        },
      }),
    ],
    clients: { count: 3, each: async ({ shop }) => void (await shop.order({ body: { email: "ada@example.com" } })) },
    eventually: { "every mail has been sent": async ({ outbox }) => (await outbox.list({ limit: 1 })).items.length === 0 },
  });

export const withOverlap = promises(hasty);
export const oneAfterTheOther = promises(patient);
