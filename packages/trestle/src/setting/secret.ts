/**
 * secret: a setting that nobody may see by accident. It is read when the node starts, from the environment or a file; what a handler gets
 * prints, logs and serialises as `[secret NAME]`, and `reveal()` is the only way to the text.
 */
import { readFile } from "node:fs/promises";
import { declareUnchecked, type Annotations, type Component, type NodeServices, type Usable } from "../component/index.ts";
import { Fault } from "../kernel/index.ts";
import { checkSettingName } from "./setting.ts";

export function secret(name: string, spec: SecretSpec = {}): Secret {
  checkSettingName(name, "secret");
  const { from = "environment", ...annotations } = spec;
  if (from !== "environment" && from !== "file")
    throw Fault.create("secret.bad-source", `secret ${name}: from must be "environment" or "file", got ${JSON.stringify(from)}`, "Choose one of them.");
  const component: Secret = declareUnchecked<Secret>("secret", name, {
    annotations,
    uses: {},
    edge: "read",
    role: "any",
    bind: ({ node }) => held(component, node).text ?? notRead(name),
    live: (node) => ({ reveal: () => Promise.resolve(secretText(component, node)) }),
    prepare: async (node) => {
      held(component, node).text = new SecretText(name, await read(name, from, node));
    },
  });
  return component;
}

export interface SecretSpec extends Annotations {
  /** `environment` (default): the variable of its name. `file`: the file that the variable `<NAME>_FILE` names, without the line's end. */
  readonly from?: "environment" | "file";
}

/** Printed, logged and serialised as `[secret NAME]`; `reveal()` is the only way to the text. */
export interface Secret extends Component<"secret">, Usable<{ reveal(): string }> {}

/** For kinds that need a secret without a handle. The node must have been started. */
export function secretText(component: Secret, node: NodeServices): string {
  return (held(component, node).text ?? notRead(component.name)).reveal();
}

class SecretText {
  readonly #name: string;
  readonly #text: string;

  constructor(name: string, text: string) {
    this.#name = name;
    this.#text = text;
  }

  reveal(): string {
    return this.#text;
  }
  toString(): string {
    return `[secret ${this.#name}]`;
  }
  toJSON(): string {
    return this.toString();
  }
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return this.toString();
  }
}

function held(component: Component, node: NodeServices): { text?: SecretText } {
  return node.local(component, () => ({}));
}

function notRead(name: string): never {
  throw Fault.create("setting.not-read", `secret ${name} was asked for before the node had started`, "Read secrets in handlers.");
}

async function read(name: string, from: "environment" | "file", node: NodeServices): Promise<string> {
  const variable = from === "file" ? `${name}_FILE` : name;
  const given = node.setting(variable);
  let text = given;
  if (from === "file" && given !== undefined) {
    try {
      text = (await readFile(given, "utf8")).replace(/\r?\n$/, "");
    } catch (cause) {
      throw missing(name, `the file that ${variable} names cannot be read (${(cause as NodeJS.ErrnoException).code ?? "error"})`, variable);
    }
  }
  if (text === undefined || text === "") throw missing(name, "it is required, and nobody gave it", variable);
  return text;
}

/** Says nothing of what was given. */
function missing(name: string, why: string, variable: string): Fault {
  return Fault.create("setting.invalid", `secret ${name} cannot be used: ${why}`, `Set ${variable} in the environment, or pass it as settings to start().`, {
    details: { setting: name },
  });
}
