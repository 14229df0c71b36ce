/**
 * Says what of a value does not fit policies.schema.json, naming place, rule and value. It knows the keywords that this schema uses and no others (a test holds the two
 * together): a whole validator would say less well what is wrong, and be a dependency of everybody.
 */
import schema from "./policies.schema.json" with { type: "json" };

/** One thing that is wrong: where (keys and places from the top), and the rule it breaks with the value seen. */
export interface Flaw {
  readonly path: readonly (string | number)[];
  readonly rule: string;
}

export interface Schema {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly pattern?: string;
  readonly minimum?: number;
  readonly exclusiveMinimum?: number;
  readonly maximum?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly items?: Schema;
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: boolean | Schema;
  readonly propertyNames?: { readonly pattern: string };
  /** Exactly one of these names. */
  readonly oneOf?: readonly { readonly required: readonly string[] }[];
  /** One or more of these names. */
  readonly anyOf?: readonly { readonly required: readonly string[] }[];
}

const definitions = schema.$defs as Readonly<Record<string, Schema>>;

/** Everything that is wrong, in the order of the schema; empty: it fits. */
export function flawsOf(value: unknown): readonly Flaw[] {
  const flaws: Flaw[] = [];
  check(schema as Schema, value, [], flaws);
  return flaws;
}

export function seen(value: unknown): string {
  if (value === undefined) return "nothing";
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

function check(rules: Schema, value: unknown, path: Flaw["path"], flaws: Flaw[]): void {
  const wrong = (rule: string, at: Flaw["path"] = path) => void flaws.push({ path: at, rule });
  if (rules.$ref !== undefined) check(definitions[rules.$ref.slice("#/$defs/".length)] as Schema, value, path, flaws);
  if (rules.const !== undefined && value !== rules.const) return wrong(`must be ${seen(rules.const)}, got ${seen(value)}`);
  if (rules.enum && !rules.enum.includes(value)) return wrong(`must be one of ${rules.enum.join(", ")}, got ${seen(value)}`);
  const types = rules.type === undefined ? [] : [rules.type].flat();
  if (types.length > 0 && !types.some((type) => is(type, value)))
    return wrong(`must be ${types.map((type) => articles[type]).join(" or ")}, got ${seen(value)}`);
  if (typeof value === "string" && rules.pattern !== undefined && !new RegExp(rules.pattern).test(value))
    wrong(`must match ${rules.pattern}, got ${seen(value)}`);
  const { minimum = -Infinity, exclusiveMinimum = -Infinity, maximum = Infinity } = rules;
  if (typeof value === "number" && (value < minimum || value <= exclusiveMinimum || value > maximum))
    wrong(
      `must be ${rules.minimum === undefined ? `above ${exclusiveMinimum}` : `${minimum} or more`}${rules.maximum === undefined ? "" : `, and at most ${rules.maximum}`}, got ${seen(value)}`,
    );
  if (Array.isArray(value)) {
    const { minItems = 0, maxItems = Infinity, items } = rules;
    if (value.length < minItems || value.length > maxItems)
      wrong(`must have ${minItems === maxItems ? minItems : `${minItems} to ${maxItems}`} entries, got ${value.length}`);
    if (items) value.forEach((item, at) => check(items, item, [...path, at], flaws));
  } else if (typeof value === "object" && value !== null) checkMembers(rules, value as Readonly<Record<string, unknown>>, path, flaws);
}

function checkMembers(rules: Schema, value: Readonly<Record<string, unknown>>, path: Flaw["path"], flaws: Flaw[]): void {
  const { properties = {}, additionalProperties = true, propertyNames, required = [], oneOf, anyOf } = rules;
  for (const name of required) if (!Object.hasOwn(value, name)) flaws.push({ path, rule: `must have ${name}` });
  if (oneOf) {
    const names = oneOf.flatMap((one) => one.required);
    const given = names.filter((name) => Object.hasOwn(value, name));
    if (given.length !== 1) flaws.push({ path, rule: `must have exactly one of ${names.join(", ")}, got ${given.join(" and ") || "none"}` });
  }
  const any = anyOf?.flatMap((one) => one.required) ?? [];
  if (any.length > 0 && !any.some((name) => Object.hasOwn(value, name))) flaws.push({ path, rule: `must have ${any.join(" or ")}` });
  for (const [name, member] of Object.entries(value)) {
    const at = [...path, name];
    const known = Object.hasOwn(properties, name) ? properties[name] : undefined;
    if (propertyNames && !new RegExp(propertyNames.pattern).test(name))
      flaws.push({ path: at, rule: `must have a name that matches ${propertyNames.pattern}, got ${seen(name)}` });
    else if (known) check(known, member, at, flaws);
    else if (typeof additionalProperties === "object") check(additionalProperties, member, at, flaws);
    else if (!additionalProperties) flaws.push({ path: at, rule: `is unknown; there are ${Object.keys(properties).join(", ")}` });
  }
}

const articles: Readonly<Record<string, string>> = { object: "a mapping", array: "a list", string: "a text", number: "a number", integer: "a whole number" };

function is(type: string, value: unknown): boolean {
  if (type === "array") return Array.isArray(value);
  if (type === "integer") return Number.isInteger(value);
  if (type === "object") return typeof value === "object" && value !== null && !Array.isArray(value);
  return type === typeof value && (type !== "number" || Number.isFinite(value));
}
