export { Fault } from "./kernel/index.ts";
