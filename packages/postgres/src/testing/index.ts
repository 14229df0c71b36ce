/** What tests against a real PostgreSQL need. */
export { postgresMissing, startServer } from "./server.ts";
export type { TestServer, TestServerOptions } from "./server.ts";
