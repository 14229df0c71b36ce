/**
 * Where the writer of a file can be found: `<file>-writer`, written by whoever became the writer, readable by this user only. It
 * names the socket and the secret that opens it. A note may be old; whether its writer lives is for lock and socket to say.
 *
 * The socket lies beside the file, where everybody sees it who sees the file, whatever `/tmp` they have and by whatever path they came; where
 * its name would be too long for one, or the file system has no sockets, in a directory for temporary files.
 */
import { chmodSync, lstatSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createHash } from "node:crypto";
import { tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { Fault } from "../kernel/index.ts";

export interface WriterNote {
  readonly pid: number;
  readonly term: number;
  /** In the note without a directory when it lies beside the file. Absent: it writes alone, and takes nobody in. */
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
    const socket = textOf(note.socket);
    return { pid: note.pid, term: note.term, socket: socket && resolve(dirname(path), socket), secret: textOf(note.secret), alone: textOf(note.alone) };
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

/** Those beside the file that killed writers left behind. For the writer alone, and within its term. */
export function removeSockets(path: string, own: string | undefined): void {
  try {
    for (const name of readdirSync(dirname(path))) {
      if (!name.startsWith(`${basename(path)}-socket.`) || name === own) continue;
      const socket = join(dirname(path), name);
      if (lstatSync(socket).isSocket()) rmSync(socket);
    }
  } catch {
    // Not this user's to look at, or to remove.
  }
}

/** `sun_path` of macOS, without its NUL; Linux has four more. */
const socketBytesMax = 103;

/**
 * The socket of one term, by the first name that `open` can give it; answers what it opened, and the name as the note has it. A throw says why there can be none. A new name for
 * each term: whoever was superseded removes his own when he closes it, and never his successor's.
 */
export async function withSocket<T>(
  path: string,
  term: number,
  open: (socket: string) => Promise<T>,
  directory = tmpdir(),
): Promise<{ readonly opened: T; readonly socket: string }> {
  if (process.getuid === undefined) throw new Error("this system has no sockets in the file system");
  const beside = `${path}-socket.${term}`;
  if (fits(beside)) {
    try {
      rmSync(beside, { force: true });
      return { opened: await open(beside), socket: basename(beside) };
    } catch {
      // A file system without sockets, or a path by which nothing can be bound.
    }
  }
  const socket = temporarySocket(path, term, directory, process.getuid());
  return { opened: await open(socket), socket };
}

const fits = (socket: string): boolean => Buffer.byteLength(socket) <= socketBytesMax;

/** In a directory that only this user may enter. */
function temporarySocket(path: string, term: number, directory: string, user: number): string {
  const name = join(`trestle-${user}`, `${createHash("sha256").update(path).digest("hex").slice(0, 20)}.${term}`);
  const socket = [directory, "/tmp"].map((parent) => join(parent, name)).find(fits);
  if (socket === undefined) throw new Error(`the name of a socket in ${directory} would be longer than ${socketBytesMax} bytes`);
  const room = join(socket, "..");
  mkdirSync(room, { recursive: true, mode: 0o700 });
  const { uid, mode } = lstatSync(room, { throwIfNoEntry: true });
  if (!lstatSync(room).isDirectory() || uid !== user) throw new Error(`${room} belongs to somebody else`);
  if ((mode & 0o077) !== 0) chmodSync(room, 0o700);
  rmSync(socket, { force: true });
  return socket;
}
