#!/usr/bin/env node
// The command `trestle`. It imports nothing before it has looked at Node, so that an old one gets an answer and not a syntax error.
// Compiled code is kept between runs, and `start` loads the store's thread beside everything else: together half of the time until an app is there.
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
if (major < 24 || (major === 24 && minor < 10)) {
  process.stderr.write(`trestle needs Node 24.10 or newer, this is ${process.version}.\nInstall Node 24, or put a newer node first in PATH.\n`);
  process.exitCode = 3;
} else {
  (await import("node:module")).enableCompileCache();
  const words = process.argv.slice(2);
  const supervises = words.some((word) => word.startsWith("--processes")) || (process.env["TRESTLE_PROCESSES"] && !process.env["TRESTLE_PROCESS"]);
  if (words[0] === "start" && !supervises) (await import("../sqlite/index.ts")).loadStoreAhead(/ --store[ =](\S+)/.exec(words.join(" "))?.[1]);
  const { main } = await import("./main.ts");
  await main(process.argv.slice(2));
}
