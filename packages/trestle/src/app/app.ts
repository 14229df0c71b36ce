/** app: the list of what runs. What those use is found through `uses`; nothing registers itself anywhere. */
import type { Annotations, Component } from "../component/index.ts";
import { Fault } from "../kernel/index.ts";
import { graphOf, reachable, type Graph } from "./graph.ts";

/** Declaring is pure; `start` binds it to engines. `name` names the default store file: `[a-z][a-z0-9-]*`. */
export function app(name: string, components: readonly Component[], annotations: AppSpec = {}): App {
  if (!/^[a-z][a-z0-9-]{0,63}$/.test(name)) {
    throw Fault.create(
      "app.bad-name",
      `the name of an app must match [a-z][a-z0-9-]* and have at most 64 characters, got ${JSON.stringify(name)}`,
      "Rename it: it names the store's file and the service in traces.",
    );
  }
  return new DeclaredApp(name, components, annotations);
}

export interface AppSpec extends Annotations {}

export interface App {
  readonly name: string;
  readonly annotations: AppSpec;
  /** The listed components and all they reach, dependencies first. */
  readonly components: readonly Component[];
  readonly graph: Graph;
}

class DeclaredApp implements App {
  readonly name: string;
  readonly annotations: AppSpec;
  readonly #roots: readonly Component[];
  #components: readonly Component[] | undefined;

  constructor(name: string, roots: readonly Component[], annotations: AppSpec) {
    this.name = name;
    this.annotations = annotations;
    this.#roots = roots;
  }

  get components(): readonly Component[] {
    return (this.#components ??= reachable(this.#roots));
  }

  get graph(): Graph {
    return graphOf(this.components);
  }
}
