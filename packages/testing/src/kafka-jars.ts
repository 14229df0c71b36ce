/**
 * Kafka's broker is a set of published jars: those of KAFKA_HOME, or those that Maven brings (from its local repository when they
 * are there). The list is kept beside the user's caches, because Maven needs seconds to say it again.
 */
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { findProgram } from "./find-program.ts";

export type Classpath = { readonly classpath: string; readonly reason: undefined } | { readonly classpath: undefined; readonly reason: string };

const artifact = "org.apache.kafka:kafka_2.13:4.1.2";
// The broker logs through SLF4J and brings nothing that writes it down; its distribution does.
const logging = "org.slf4j:slf4j-simple:1.7.36";
let search: Promise<Classpath> | undefined;

export function kafkaClasspath(): Promise<Classpath> {
  return (search ??= locate());
}

async function locate(): Promise<Classpath> {
  const home = process.env["KAFKA_HOME"];
  if (home) {
    const libraries = join(home, "libs");
    return existsSync(libraries) ? { classpath: join(libraries, "*"), reason: undefined } : none(`KAFKA_HOME has no folder libs: ${home}`);
  }
  const kept = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "trestle-testing", `${artifact.replaceAll(":", "-")}.classpath`);
  if (existsSync(kept)) {
    const classpath = readFileSync(kept, "utf8");
    if (classpath.split(delimiter).every((jar) => existsSync(jar))) return { classpath, reason: undefined };
  }
  const maven = await findProgram({
    name: "Maven",
    urlVariable: "",
    pathVariable: "TRESTLE_MAVEN_BIN",
    program: "mvn",
    debianPackages: ["maven"],
  });
  if (maven.kind !== "program") return none(`KAFKA_HOME is not set, and ${maven.kind === "none" ? maven.reason : "there is no Maven"}`);
  process.stderr.write(`No Kafka yet: Maven brings ${artifact}\n`);
  const folder = mkdtempSync(join(tmpdir(), "trestle-kafka-jars-"));
  try {
    const dependencies = [artifact, logging].map((each) => {
      const [group, name, version] = each.split(":");
      return `<dependency><groupId>${group}</groupId><artifactId>${name}</artifactId><version>${version}</version></dependency>`;
    });
    const head = "<modelVersion>4.0.0</modelVersion><groupId>trestle</groupId><artifactId>jars</artifactId><version>1</version><packaging>pom</packaging>";
    writeFileSync(join(folder, "pom.xml"), `<project>${head}<dependencies>${dependencies.join("")}</dependencies></project>`);
    const list = join(folder, "classpath");
    const failure = await run(maven.path, ["-B", "-q", "dependency:build-classpath", `-Dmdep.outputFile=${list}`], folder);
    if (failure !== undefined) return none(`Maven could not bring ${artifact} (${failure})`);
    mkdirSync(join(kept, ".."), { recursive: true });
    // Renamed into place, so that another process never reads half of it.
    const half = `${kept}.${process.pid}`;
    writeFileSync(half, readFileSync(list, "utf8").trim());
    renameSync(half, kept);
    return { classpath: readFileSync(kept, "utf8"), reason: undefined };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const none = (reason: string): Classpath => ({ classpath: undefined, reason });

function run(command: string, args: readonly string[], cwd: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    let output = "";
    const child = spawn(command, args, { cwd, stdio: ["ignore", "pipe", "pipe"], timeout: 300_000 });
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text: string) => (output = (output + text).slice(-2_000)));
    child.on("error", (error) => resolve(error.message));
    child.on("exit", (code, signal) => resolve(code === 0 ? undefined : `${code ?? signal}: ${output.trim()}`));
  });
}
