/**
 * Where the writer of a file can be found: `<file>-writer`, written by whoever became the writer, readable by this user only. It
 * names the socket and the secret that opens it. A note may be old; whether its writer lives is for lock and socket to say.
 */
import { chmodSync, lstatSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createHash } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Fault } from "../kernel/index.ts";

export interface WriterNote {
  readonly pid: number;
  readonly term: number;
  /** Absent: it writes alone, and takes nobody in. */
  readonly socket?: string | undefined;
  /** 32 bytes, hex. */
  readonly secret?: string | undefined;
  /** Why it takes nobody in. */
  readonly alone?: string | undefined;
}

const noteOf = (path: string): string => `${path}-writer`;

/** `undefined` when there is none, or a half one. Fault `store.in-use` when it is another user's. */
export function readNote(path: string): WriterNote | undefined {
  let text: string;
  try {
    text = readFileSync(noteOf(path), "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EACCES") return undefined;
    throw Fault.create("store.in-use", `${path} is open in a process of another user`, "Run all processes of one store as one user.", {
      cause: error,
      details: { path },
    });
  }
  try {
    const note = JSON.parse(text) as Partial<WriterNote> | null;
    if (typeof note?.pid !== "number" || typeof note.term !== "number") return undefined;
    return { pid: note.pid, term: note.term, socket: textOf(note.socket), secret: textOf(note.secret), alone: textOf(note.alone) };
  } catch {
    return undefined;
  }
}

const textOf = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined);

export function writeNote(path: string, note: WriterNote): void {
  const draft = `${noteOf(path)}.${note.pid}`;
  try {
    rmSync(draft, { force: true });
    writeFileSync(draft, `${JSON.stringify(note)}\n`, { mode: 0o600, flag: "wx" });
    renameSync(draft, noteOf(path));
  } catch (error) {
    throw Fault.create(
      "store.not-writable",
      `${noteOf(path)} cannot be written: ${(error as Error).message}`,
      "Check that this user may write to the directory.",
      { cause: error, details: { path } },
    );
  }
}

/** For the writer alone, and within its term. */
export function removeNote(path: string): void {
  rmSync(noteOf(path), { force: true });
}

/** `sun_path` of macOS, without its NUL; Linux has four more. */
const socketBytesMax = 103;

/**
 * The name of the socket of one term, in a directory that only this user may enter. A throw says why there can be none. A new name for
 * each term: whoever was superseded removes his own when he closes it, and never his successor's.
 */
export function socketFor(path: string, term: number, directory = tmpdir()): string {
  const user = process.getuid?.();
  if (user === undefined) throw new Error("this system has no sockets in the file system");
  const name = join(`trestle-${user}`, `${createHash("sha256").update(path).digest("hex").slice(0, 20)}.${term}`);
  const socket = [directory, "/tmp"].map((parent) => join(parent, name)).find((full) => Buffer.byteLength(full) <= socketBytesMax);
  if (socket === undefined) throw new Error(`the name of a socket in ${directory} would be longer than ${socketBytesMax} bytes`);
  const room = join(socket, "..");
  mkdirSync(room, { recursive: true, mode: 0o700 });
  const { uid, mode } = lstatSync(room, { throwIfNoEntry: true });
  if (!lstatSync(room).isDirectory() || uid !== user) throw new Error(`${room} belongs to somebody else`);
  if ((mode & 0o077) !== 0) chmodSync(room, 0o700);
  rmSync(socket, { force: true });
  return socket;
}
