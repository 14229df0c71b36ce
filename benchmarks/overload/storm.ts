/** A retry storm through three layers of processes: 32 calls a second, of which what is at their end can do 40, and 4 for ten seconds. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

export interface Storm {
  /** Calls that each layer made for one that it was asked, from the trouble to the end: the clients' neighbour first. */
  readonly amplification: readonly number[];
  /** From the end of the trouble until nearly all calls of clients succeed again. */
  readonly recoverySeconds: number;
}

const perSecond = 32;
const forSeconds = 30;
const [fromSecond, untilSecond] = [6, 16];

export async function storm(): Promise<Readonly<Record<string, Storm>>> {
  const [withBudgets, without] = await Promise.all([one("with"), one("without")]);
  return { "with budgets and breakers": withBudgets, "without them": without };
}

async function one(budgets: "with" | "without"): Promise<Storm> {
  const children: ChildProcess[] = [];
  const started = async (file: string, ...args: readonly string[]): Promise<string> => {
    const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", fileURLToPath(new URL(file, import.meta.url)), ...args], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    children.push(child);
    const [port] = (await once(child.stdout as NodeJS.ReadableStream, "data")) as [Buffer];
    return `http://127.0.0.1:${port.toString("utf8").trim()}`;
  };
  try {
    const startMs = Date.now() + 4_000;
    const database = await started("./database.ts", String(startMs));
    const urls = [database];
    for (const timeoutMs of [500, 700, 900]) urls.unshift(await started("./layer.ts", `${urls[0] as string}/`, budgets, String(timeoutMs)));
    const askedOf = async () => Promise.all(urls.map(async (url) => Number(await (await fetch(`${url}/asked`)).text())));
    const ok = new Array<number>(forSeconds).fill(0);
    let before: readonly number[] = [];
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, startMs - Date.now())));
    for (let n = 0; n < forSeconds * perSecond; n++) {
      const second = Math.floor(n / perSecond);
      if (n === fromSecond * perSecond) before = await askedOf();
      const waitMs = startMs + (n * 1_000) / perSecond - Date.now();
      if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
      void fetch(`${urls[0] as string}/`).then(
        async (answer) => {
          await answer.text();
          if (answer.ok) ok[second] = (ok[second] as number) + 1;
        },
        () => undefined,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    const during = (await askedOf()).map((count, at) => count - (before[at] as number));
    const well = ok.findIndex((_, at) => at >= untilSecond && ok.slice(at, forSeconds - 1).every((count) => count >= perSecond - 1));
    return {
      amplification: during.slice(1).map((count, at) => count / (during[at] as number)),
      recoverySeconds: well < 0 || well >= forSeconds - 1 ? Infinity : well - untilSecond,
    };
  } finally {
    for (const child of children) child.stdin?.end();
  }
}
