/** The command line, for programs that bring their own process around it. */
export { exitCodes } from "./exit-codes.ts";
export type { ExitCode } from "./exit-codes.ts";
export { main } from "./main.ts";
