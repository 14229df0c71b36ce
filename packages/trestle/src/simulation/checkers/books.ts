/** Checks of what is left when it is quiet, or must hold at every moment: the sum stays, and all agree. */
import { Findings, type Checked } from "./checked.ts";
import { checkOperations, endOf, grouped, identityOf, inWords, json, type History, type Operation } from "./history.ts";

export interface ConservationOptions<Call, Result> {
  /** The amounts that one operation saw together, by account; `undefined` where it saw none. Default: its result. */
  readonly amountsOf?: (operation: Operation<Call, Result>) => Readonly<Record<string, number>> | undefined;
  /** What they add up to. Default: what the first of them adds up to. */
  readonly total?: number;
  /** No amount is ever below this. Default: no bound. */
  readonly least?: number;
}

/**
 * Whoever looks at all accounts at once finds the same sum. Problems: `not-conserved`, `below-least`; `not-looked` when nobody did. Amounts are added
 * as they come: use whole numbers. Fault `history.bad-operation`.
 */
export function checkConservation<Call, Result>(history: History<Call, Result>, options: ConservationOptions<Call, Result> = {}): Checked {
  checkOperations(history);
  const findings = new Findings(history.length);
  const amountsOf = options.amountsOf ?? (({ result }: Operation<Call, Result>) => result as Readonly<Record<string, number>> | undefined);
  let { total } = options;
  let looked = 0;
  for (const [place, operation] of history.entries()) {
    const amounts = operation.outcome === "ok" ? amountsOf(operation) : undefined;
    if (amounts === undefined) continue;
    looked++;
    const sum = Object.values(amounts).reduce((one, other) => one + other, 0);
    total ??= sum;
    if (sum !== total) findings.violation("not-conserved", `${inWords(operation)} adds up to ${sum}, not ${total}`, [place]);
    for (const [account, amount] of Object.entries(amounts))
      if (options.least !== undefined && amount < options.least)
        findings.violation("below-least", `${inWords(operation)} has ${amount} on ${account}, less than ${options.least}`, [place]);
  }
  if (looked === 0) findings.unknown("not-looked", "no operation saw any amounts");
  return findings.checked();
}

export interface ConvergenceOptions<Call, Result> {
  /** What an operation saw of its key; `undefined` where it saw nothing. Default: the result of calls of kind `read`. */
  readonly seenBy?: (operation: Operation<Call, Result>) => unknown;
  /** From when on all must agree. Default: when the last operation that saw nothing (a write) was over, those of unknown outcome not counted. */
  readonly quietFrom?: number;
  /** How many must have looked at each key since then, for the verdict to be `ok`. Default 2. */
  readonly least?: number;
}

/**
 * Once nobody writes any more, all who look at a key see the same (eventual consistency, with its "eventually" given as a moment). Problems: `diverged`;
 * `not-looked` when fewer than `least` looked at a key since it was quiet. Fault `history.bad-operation`.
 */
export function checkConvergence<Call, Result>(history: History<Call, Result>, options: ConvergenceOptions<Call, Result> = {}): Checked {
  checkOperations(history);
  const findings = new Findings(history.length);
  const isRead = ({ call }: Operation<Call, Result>) => (call as { readonly kind?: unknown } | null)?.kind === "read";
  const seenBy = options.seenBy ?? ((operation: Operation<Call, Result>) => (isRead(operation) ? (operation.result ?? null) : undefined));
  const at = (place: number) => history[place] as Operation<Call, Result>;
  const looks = [...history.keys()].filter((place) => at(place).outcome === "ok" && seenBy(at(place)) !== undefined);
  const looked = new Set(looks);
  const quietFrom =
    options.quietFrom ??
    history.reduce(
      (latest, operation, place) => (looked.has(place) || isRead(operation) || operation.outcome === "unknown" ? latest : Math.max(latest, endOf(operation))),
      -Infinity,
    );
  for (const [key, places] of grouped(history.keys(), (place) => at(place).key)) {
    const quiet = places.filter((place) => looked.has(place) && at(place).invokedAt >= quietFrom);
    const answers = [...grouped(quiet, (place) => identityOf(seenBy(at(place)))).values()].map(([first = -1]) => first);
    const name = key === undefined ? "" : ` of ${key}`;
    if (answers.length > 1)
      findings.violation(
        "diverged",
        `since ${quietFrom} there are ${answers.length} answers${name}: ${answers
          .slice(0, 4)
          .map((place) => `${json(seenBy(at(place)))} by ${inWords(at(place))}`)
          .join("; ")}`,
        answers,
      );
    else if (quiet.length < (options.least ?? 2)) findings.unknown("not-looked", `since ${quietFrom} only ${quiet.length} looked${name}`, quiet);
  }
  return findings.checked();
}
