/**
 * The mail sink: a system that is not ours, with its own process and its own ledger. What it accepted has been sent.
 *
 *   POST /messages {to, subject, text} + Message-Id (or Idempotency-Key)   → 202 {id}
 *   GET  /messages?to=&cursor&limit                                        → {items, total, next?}: what one address received
 *   GET  /messages/:id                                                     → the first message under this id, or 404
 *   GET  /ledger?cursor&limit                                              → {items, total, next?}: everything sent, in order
 *   GET  /_identity · GET|PUT /_stub {latencyMs, failRate, hang, honourIds, seed}
 *
 * With `honourIds` (the default) a message id is sent once, however often it is handed in; without, each time, as most
 * mail servers do. A message is on disk before anyone is told.
 */
import { join } from "node:path";
import { openDurableLedger } from "../foreign/durable-ledger.ts";
import { ledgerPage, problem, type ForeignSystem } from "../foreign/foreign-server.ts";
import { trueOrFalse, type Checked } from "../foreign/misbehaviour.ts";

export interface MailStub {
  /** Whether a message id that was sent before is not sent again. Default true. */
  readonly honourIds: boolean;
}

export interface SentMessage {
  readonly seq: number;
  readonly id: string;
  readonly to: string;
  readonly subject: string;
  readonly text: string;
  readonly atMs: number;
}

type Letter = Pick<SentMessage, "to" | "subject" | "text">;

const schema = `
  CREATE TABLE IF NOT EXISTS message (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, recipient TEXT NOT NULL, subject TEXT NOT NULL, text TEXT NOT NULL, at_ms INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX IF NOT EXISTS message_by_id ON message (id);
  CREATE INDEX IF NOT EXISTS message_by_recipient ON message (recipient, seq)`;
const columns = 'seq, id, recipient AS "to", subject, text, at_ms AS atMs';

export function openMailSink(dataDirectory: string): { readonly system: ForeignSystem<MailStub>; close(): void } {
  const dataFile = join(dataDirectory, "mail.db");
  const ledger = openDurableLedger(dataFile, schema);
  const add = ledger.database.prepare("INSERT INTO message (id, recipient, subject, text, at_ms) VALUES (?, ?, ?, ?, ?)");
  const byId = ledger.database.prepare(`SELECT ${columns} FROM message WHERE id = ? ORDER BY seq LIMIT 1`);
  const all = ledger.database.prepare(`SELECT ${columns} FROM message WHERE seq > ? ORDER BY seq LIMIT ?`);
  const countAll = ledger.database.prepare("SELECT count(*) AS total FROM message");
  const received = ledger.database.prepare(`SELECT ${columns} FROM message WHERE recipient = ? AND seq > ? ORDER BY seq LIMIT ?`);
  const countReceived = ledger.database.prepare("SELECT count(*) AS total FROM message WHERE recipient = ?");

  const system: ForeignSystem<MailStub> = {
    name: "trestle-example-mail",
    dataFile,
    stubOptions: { honourIds: trueOrFalse },
    routes: [
      {
        method: "POST",
        path: /^\/messages$/,
        misbehaves: true,
        answer: ({ headers, body, stub }) => {
          const id = headers["message-id"] ?? headers["idempotency-key"];
          if (typeof id !== "string" || id === "" || id.length > 255)
            return problem(400, "no-message-id", "a message needs a Message-Id (or Idempotency-Key) of 1 to 255 characters");
          const letter = parseLetter(body);
          if (!letter.ok) return problem(422, "bad-message", letter.problem);
          const { to, subject, text } = letter.value;
          return ledger.write(() => {
            if (stub.honourIds === false || byId.get(id) === undefined) add.run(id, to, subject, text, Date.now());
            return { status: 202, body: { id } };
          });
        },
      },
      {
        method: "GET",
        path: /^\/messages\/([^/]+)$/,
        misbehaves: true,
        answer: ({ params: [id = ""] }) => {
          const message = byId.get(id);
          return message ? { status: 200, body: message } : problem(404, "no-such-message", `no message was ever sent under ${id}`);
        },
      },
      {
        method: "GET",
        path: /^\/messages$/,
        misbehaves: true,
        answer: ({ query }) => {
          const to = query.get("to");
          if (to === null || to === "") return problem(400, "no-recipient", "say whose messages: ?to=ada@example.com");
          return ledgerPage(query, (after, limit) => ({
            items: received.all(to, after, limit) as unknown as SentMessage[],
            total: Number(countReceived.get(to)?.["total"]),
          }));
        },
      },
      {
        method: "GET",
        path: /^\/ledger$/,
        misbehaves: false,
        answer: ({ query }) =>
          ledgerPage(query, (after, limit) => ({
            items: all.all(after, limit) as unknown as SentMessage[],
            total: Number(countAll.get()?.["total"]),
          })),
      },
    ],
  };
  return { system, close: () => ledger.close() };
}

function parseLetter(body: unknown): Checked<Letter> {
  const { to, subject, text } = (typeof body === "object" && body !== null ? body : {}) as Record<string, unknown>;
  if (typeof to !== "string" || !to.includes("@") || to.length > 320) return { ok: false, problem: "to must be a mail address" };
  if (typeof subject !== "string" || subject.length > 1_000) return { ok: false, problem: "subject must be a text of at most 1000 characters" };
  if (typeof text !== "string" || text.length > 100_000) return { ok: false, problem: "text must be a text of at most 100000 characters" };
  return { ok: true, value: { to, subject, text } };
}
