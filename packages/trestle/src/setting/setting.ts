/**
 * setting: a value from the outside (what `start` was given, else the environment), read once when the node starts, never at
 * import. A bad one names itself and stops the boot. Its name is the environment variable's.
 *
 * A schema first sees the text as it came; when it declines that and the text is JSON, it sees the JSON (`"8080"` for a number).
 */
import {
  declareUnchecked,
  definitionOf,
  parse,
  type Annotations,
  type Component,
  type In,
  type Invocation,
  type Issue,
  type NodeServices,
  type Out,
  type Parsed,
  type Schema,
  type Usable,
} from "../component/index.ts";
import { Fault } from "../kernel/index.ts";

export function setting(name: string, spec?: SettingSpec): Setting<string>;
export function setting<S extends Schema>(name: string, spec: SchemaSettingSpec<S>): Setting<Out<S>>;
export function setting(name: string, spec: SettingSpec & Partial<SchemaSettingSpec<Schema>> = {}): Setting<unknown> {
  checkSettingName(name, "setting");
  const { schema, default: otherwise, ...annotations } = spec;
  const rule: Rule = { name, schema, otherwise };
  const component: Setting<unknown> = declareUnchecked<Setting<unknown>>("setting", name, {
    annotations,
    uses: {},
    edge: "read",
    role: "any",
    bind: (invocation: Invocation) => ({ value: settingValue(component, invocation.node) }),
    live: (node) => ({ value: settingValue(component, node) }),
    prepare: async (node) => {
      held(component, node).value = { value: await read(rule, node) };
    },
    interior: rule,
  });
  return component;
}

export function checkSettingName(name: string, kind: "setting" | "secret"): void {
  if (/^[A-Za-z_][A-Za-z0-9_]{0,127}$/.test(name)) return;
  throw Fault.create(
    "component.bad-name",
    `the name of a ${kind} must match [A-Za-z_][A-Za-z0-9_]* and have at most 128 characters, got ${JSON.stringify(name)}`,
    "Rename it: it is the name of an environment variable.",
  );
}

export interface SettingSpec extends Annotations {
  /** Without one the setting must be given. */
  readonly default?: string;
}
export interface SchemaSettingSpec<S extends Schema> extends Annotations {
  readonly schema: S;
  /** As the schema takes it. Without one, a schema that accepts `undefined` decides. */
  readonly default?: In<S>;
}

export interface Setting<Value> extends Component<"setting">, Usable<{ readonly value: Value }> {}

/** For kinds that need a setting without a handle. The node must have been started. */
export function settingValue<Value>(component: Setting<Value>, node: NodeServices): Value {
  const { value } = held(component, node);
  if (value) return value.value as Value;
  const { name } = definitionOf(component).interior as Rule;
  throw Fault.create("setting.not-read", `setting ${name} was asked for before the node had started`, "Read settings in handlers.");
}

/** Empty until `prepare` has read it. */
function held(component: Component, node: NodeServices): { value?: { readonly value: unknown } } {
  return node.local(component, () => ({}));
}

interface Rule {
  readonly name: string;
  readonly schema: Schema | undefined;
  readonly otherwise: unknown;
}

async function read({ name, schema, otherwise }: Rule, node: NodeServices): Promise<unknown> {
  const text = node.setting(name);
  if (!schema) {
    const value = text ?? otherwise;
    if (value === undefined) throw invalid(name, text, [{ path: "", message: "it is required, and nobody gave it" }]);
    return value;
  }
  const parsed = await parse(schema, text ?? otherwise);
  if (parsed.ok) return parsed.value;
  const asJson = text === undefined ? undefined : await parseJson(schema, text);
  if (asJson?.ok) return asJson.value;
  throw invalid(name, text, text === undefined && otherwise === undefined ? [{ path: "", message: "it is required, and nobody gave it" }] : parsed.issues);
}

async function parseJson(schema: Schema, text: string): Promise<Parsed<unknown> | undefined> {
  try {
    return await parse(schema, JSON.parse(text));
  } catch {
    return undefined; // no JSON: what the schema said about the text stands
  }
}

function invalid(name: string, text: string | undefined, issues: readonly Issue[]): Fault {
  const why = issues
    .slice(0, 5)
    .map(({ path, message }) => (path === "" ? message : `${path}: ${message}`))
    .join("; ");
  const seen = text === undefined ? "" : `; got ${JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text)}`;
  return Fault.create(
    "setting.invalid",
    `setting ${name} cannot be used: ${why}${seen}`,
    `Set ${name} in the environment, or pass it as settings: { ${name}: … } to start().`,
    { details: { setting: name, issues } },
  );
}
