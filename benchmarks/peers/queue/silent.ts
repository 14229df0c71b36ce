/** graphile-worker writes a line per job by default; nobody measures a terminal. */
import { Logger } from "graphile-worker";

export const silent = new Logger(() => () => undefined);
