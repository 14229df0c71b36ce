/** Conformance: what the store port promises, as cases that any engine can be run through. */
export type { Case, CaseTools } from "./case.ts";
export { commitCases } from "./commit.ts";
export type { CommitSubject } from "./commit.ts";
