/**
 * The other servers, one row each: how they are found, configured and known to be ready. Each keeps its files in its home, so a
 * restart finds what a crash left; each listens on loopback only.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Fault } from "trestle/kernel";
import { kafkaClasspath } from "./kafka-jars.ts";
import type { Recipe } from "./server.ts";

export interface PgbouncerOptions {
  /** The PostgreSQL behind it, with its password: `server.url`. */
  readonly to: string;
  /** When a server connection goes back to the pool. Default `transaction`. */
  readonly mode?: "session" | "transaction" | "statement";
  /** Server connections for each user and database; default 20. */
  readonly poolSize?: number;
  /** Clients; default 500. */
  readonly clientsMax?: number;
  /** As in pgbouncer.ini, above the harness's own. */
  readonly settings?: Readonly<Record<string, string | number>>;
}

export interface RedisOptions {
  /** `always` flushes before it answers; default `everysec`, as most people run it; `no` keeps nothing over a crash. */
  readonly appendfsync?: "always" | "everysec" | "no";
  /** As in redis.conf, above the harness's own. */
  readonly settings?: Readonly<Record<string, string | number>>;
}

export interface NatsOptions {
  /** Default true. */
  readonly jetstream?: boolean;
}

export interface KafkaOptions {
  /** As in server.properties, above the harness's own. */
  readonly settings?: Readonly<Record<string, string | number>>;
}

const loopback = "127.0.0.1";
const lines = (settings: Readonly<Record<string, string | number>>, between: string) =>
  Object.entries(settings)
    .map(([name, value]) => `${name}${between}${value}\n`)
    .join("");

export const recipes = {
  pgbouncer: {
    name: "PgBouncer",
    urlVariable: "TRESTLE_TEST_PGBOUNCER_URL",
    pathVariable: "TRESTLE_PGBOUNCER_BIN",
    program: "pgbouncer",
    debianPackages: ["pgbouncer"],
    image: { name: "edoburu/pgbouncer", program: "/usr/bin/pgbouncer" },
    refusesRoot: true,
    url({ host, port }, { to }) {
      const url = new URL(to);
      url.hostname = host;
      url.port = String(port);
      return url.href;
    },
    launch({ home, port, program }, { to, mode = "transaction", poolSize = 20, clientsMax = 500, settings = {} }) {
      const { hostname, port: serverPort, username, password } = postgresUrl(to);
      const users = join(home, "users.txt");
      writeFileSync(users, `"${username}" "${password}"\n`, { mode: 0o644 });
      const options = {
        listen_addr: loopback,
        listen_port: port,
        unix_socket_dir: "",
        auth_type: "scram-sha-256",
        auth_file: users,
        pool_mode: mode,
        default_pool_size: poolSize,
        max_client_conn: clientsMax,
        server_login_retry: 1,
        ...settings,
      };
      const file = join(home, "pgbouncer.ini");
      writeFileSync(file, `[databases]\n* = host=${hostname} port=${serverPort}\n[pgbouncer]\n${lines(options, " = ")}`, { mode: 0o644 });
      return { command: program, args: [file] };
    },
    ready: /process up/,
    portTaken: /Address already in use/,
    stopSignal: "SIGINT",
  } satisfies Recipe<PgbouncerOptions>,

  redis: {
    name: "Redis",
    urlVariable: "TRESTLE_TEST_REDIS_URL",
    pathVariable: "TRESTLE_REDIS_BIN",
    program: "redis-server",
    debianPackages: ["redis-server"],
    image: { name: "redis:8", program: "/usr/local/bin/redis-server" },
    refusesRoot: false,
    url: ({ host, port }) => `redis://${host}:${port}`,
    launch({ home, port, program }, { appendfsync = "everysec", settings = {} }) {
      const file = join(home, "redis.conf");
      writeFileSync(file, lines({ bind: loopback, port, dir: home, save: '""', appendonly: "yes", appendfsync, ...settings }, " "));
      return { command: program, args: [file] };
    },
    ready: /Ready to accept connections/,
    portTaken: /Address already in use/,
    stopSignal: "SIGTERM",
  } satisfies Recipe<RedisOptions>,

  nats: {
    name: "NATS",
    urlVariable: "TRESTLE_TEST_NATS_URL",
    pathVariable: "TRESTLE_NATS_BIN",
    program: "nats-server",
    debianPackages: ["nats-server"],
    image: { name: "nats:2", program: "/nats-server" },
    refusesRoot: false,
    url: ({ host, port }) => `nats://${host}:${port}`,
    launch: ({ home, port, program }, { jetstream = true }) => ({
      command: program,
      args: ["--addr", loopback, "--port", String(port), ...(jetstream ? ["--jetstream", "--store_dir", join(home, "store")] : [])],
    }),
    ready: /Server is ready/,
    portTaken: /address already in use/,
    stopSignal: "SIGTERM",
  } satisfies Recipe<NatsOptions>,

  kafka: {
    name: "Kafka",
    urlVariable: "TRESTLE_TEST_KAFKA_URL",
    pathVariable: "TRESTLE_JAVA_BIN",
    program: "java",
    debianPackages: ["default-jre-headless"],
    image: { name: "apache/kafka:4.1.2", program: "/opt/java/openjdk/bin/java" },
    refusesRoot: false,
    lacks: async () => (await kafkaClasspath()).reason,
    url: ({ host, port }) => `kafka://${host}:${port}`,
    /** One node that is broker and controller. The controller has a port of its own, the next one. */
    async launch({ home, port, program, run }, { settings = {} }) {
      const classpath = (await kafkaClasspath()).classpath ?? "/opt/kafka/libs/*";
      const file = join(home, "server.properties");
      const options = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": `1@${loopback}:${port + 1}`,
        listeners: `PLAINTEXT://${loopback}:${port},CONTROLLER://${loopback}:${port + 1}`,
        "controller.listener.names": "CONTROLLER",
        "log.dirs": join(home, "log"),
        "offsets.topic.num.partitions": 1,
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.num.partitions": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "group.initial.rebalance.delay.ms": 0,
        ...settings,
      };
      writeFileSync(file, lines(options, "="));
      // One of two loggers is there: that of its distribution, or the small one beside the published jars.
      const log4j = join(home, "log4j2.properties");
      writeFileSync(log4j, lines(kafkaLogging, "="));
      const logging = [
        `-Dlog4j2.configurationFile=${log4j}`,
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.log.kafka.server=info",
      ];
      const java = (...args: readonly string[]) => ({
        command: program,
        args: ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", ...logging, "-cp", classpath, ...args],
      });
      await run(java("kafka.tools.StorageTool", "format", "--ignore-formatted", "--cluster-id", "dHJlc3RsZS10ZXN0aW5nMQ", "--config", file));
      return java("kafka.Kafka", file);
    },
    ready: /Kafka Server started/,
    portTaken: /Address already in use/,
    stopSignal: "SIGTERM",
    startWithinMs: 90_000,
  } satisfies Recipe<KafkaOptions>,
};

const kafkaLogging = {
  "appender.console.type": "Console",
  "appender.console.name": "console",
  "rootLogger.level": "warn",
  "rootLogger.appenderRef.console.ref": "console",
  "logger.server.name": "kafka.server",
  "logger.server.level": "info",
};

function postgresUrl(to: string): URL {
  if (URL.canParse(to) && /^postgres(ql)?:$/.test(new URL(to).protocol)) return new URL(to);
  throw Fault.create("testing.bad-option", `to must be the URL of a PostgreSQL, not ${JSON.stringify(to)}.`, "Pass the url of postgres().");
}
