/** What a refused commit means to whoever waits for it. */
import { Fault } from "../kernel/index.ts";
import type { CommitRefused } from "../store/index.ts";
import type { Component } from "./component.ts";

/** The fault of a commit that another run could not make either. */
export function refusalOf(component: Component, why: CommitRefused | { readonly refused: "overran" }): Fault | undefined {
  const { kind, name } = component;
  if (why.refused === "guard")
    return Fault.create(
      "commit.guard-refused",
      `a merge of ${kind} "${name}" would leave its range: ${why.key} stands at ${why.value}`,
      "Read the value first where the handler must decide on it.",
      { details: { key: why.key, value: why.value } },
    );
  if (why.refused === "statement")
    return Fault.create(
      "commit.statement-failed",
      `a statement of ${kind} "${name}" failed: ${why.message}`,
      "Correct the statement or the data it meets; nothing of the commit was applied.",
    );
  return undefined;
}
