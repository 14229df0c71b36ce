/** records: values by key. */
export { records } from "./records.ts";
export type { NumberMerges, Records, RecordsHandle, RecordsSpec, RecordsView, SetMerges } from "./records.ts";
