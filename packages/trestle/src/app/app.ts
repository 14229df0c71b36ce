/** app: the list of what runs. What those use is found through `uses`; nothing registers itself anywhere. */
import type { Annotations, AwaitedName, Component } from "../component/index.ts";
import { Fault } from "../kernel/index.ts";
import { awaited, graphOf, reachable, type Graph } from "./graph.ts";

/** Declaring is pure; `start` binds it to engines. `name` names the default store file: `[a-z][a-z0-9-]*`. */
export function app<const C extends readonly Component[], const E extends readonly Component[] = []>(
  name: string,
  components: C & Complete<C, E>,
  spec: AppSpec<E> = {},
): App {
  if (!/^[a-z][a-z0-9-]{0,63}$/.test(name)) {
    throw Fault.create(
      "app.bad-name",
      `the name of an app must match [a-z][a-z0-9-]* and have at most 64 characters, got ${JSON.stringify(name)}`,
      "Rename it: it names the store's file and the service in traces.",
    );
  }
  return new DeclaredApp(name, components, spec);
}

export interface AppSpec<E extends readonly Component[] = readonly Component[]> extends Annotations {
  /** Interfaces that another app of the fleet implements. Queues are shared through the store; services are found by URL. */
  readonly elsewhere?: E;
}

type Implemented<C> = C extends { readonly "~implements": infer Name } ? Name : never;
type Missing<C extends readonly unknown[], E extends readonly unknown[]> = Exclude<AwaitedName<C[number]>, Implemented<C[number]> | AwaitedName<E[number]>>;
export type Complete<C extends readonly unknown[], E extends readonly unknown[]> = [Missing<C, E>] extends [never]
  ? unknown
  : { readonly "not implemented here, nor declared `elsewhere`": Missing<C, E> };

export interface App {
  readonly name: string;
  readonly annotations: Annotations;
  /** The listed components and all they reach, dependencies first. */
  readonly components: readonly Component[];
  readonly graph: Graph;
}

class DeclaredApp implements App {
  readonly name: string;
  readonly annotations: Annotations;
  readonly #roots: readonly Component[];
  readonly #elsewhere: readonly Component[];
  #components: readonly Component[] | undefined;

  constructor(name: string, roots: readonly Component[], { elsewhere = [], ...annotations }: AppSpec) {
    this.name = name;
    this.annotations = annotations;
    this.#roots = roots;
    this.#elsewhere = elsewhere;
  }

  get components(): readonly Component[] {
    return (this.#components ??= this.#reached());
  }

  #reached(): readonly Component[] {
    const components = reachable(this.#roots);
    const missing = awaited(components).filter((open) => !this.#elsewhere.includes(open));
    if (missing.length > 0)
      throw Fault.create(
        "app.not-implemented",
        `app "${this.name}" uses ${missing.map(({ kind, name }) => `${kind} "${name}"`).join(", ")}, which nobody implements`,
        "List its implement(…) in app([...]), or name it under `elsewhere` when another app of the fleet runs it.",
        { details: { missing: missing.map(({ name }) => name) } },
      );
    return components;
  }

  get graph(): Graph {
    return graphOf(this.components);
  }
}
