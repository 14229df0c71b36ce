/**
 * A port for a server that may stop and start again. It lies below the ports that systems hand out by themselves (32768 on Linux, 49152
 * on macOS), so no outgoing connection and no `listen(0)` takes it while its server is down. Test files that run side by side are told lanes
 * (TRESTLE_TEST_LANE, 0 to 15): each has every sixteenth port, so that no file takes that of another one's server while it is down.
 */
import { createServer } from "node:net";
import { Fault, systemRandom } from "trestle/kernel";

const first = 15_000;
const count = 16_000;
const lanes = 16;

/** Faults with `testing.no-port` after a hundred tries. */
export async function freePort(): Promise<number> {
  const told = process.env["TRESTLE_TEST_LANE"];
  const lane = told === undefined ? Math.floor(systemRandom.next() * lanes) : (Number.parseInt(told, 10) || 0) % lanes;
  for (let attempt = 0; attempt < 100; attempt++) {
    const port = first + Math.floor((systemRandom.next() * count) / lanes) * lanes + lane;
    if (await isFree(port)) return port;
  }
  throw Fault.create("testing.no-port", `A hundred ports between ${first} and ${first + count} were taken.`, "Look for servers that were left running.");
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.on("error", () => resolve(false));
    probe.listen(port, () => probe.close(() => resolve(true)));
  });
}
