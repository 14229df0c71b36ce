/**
 * What a kind knows about one of its components, kept beside the inert value. Kinds make it, the app floor reads it; users
 * never see it.
 */
import { Fault } from "../kernel/index.ts";
import type { Annotations, Component, Guarantee, Uses } from "./component.ts";
import type { Invocation } from "./invocation.ts";
import type { NodeServices } from "./node.ts";

export type EdgeOperation = "call" | "send" | "publish" | "follow" | "read" | "write";

export interface Definition {
  readonly annotations: Annotations;
  /** Everything its handlers reach: the static edges. */
  readonly uses: Uses;
  /** How those edges are to be read: the operation a user of this component performs on it. */
  readonly edge: EdgeOperation;
  /** Components it depends on without a handle: what it follows, the settings it needs. */
  readonly follows?: readonly Component[];
  /** Event types that it takes from what it follows, after their commits. Absent: it follows nothing, or in-commit. */
  readonly takes?: readonly string[];
  /** Which processes run it when roles are used. */
  readonly role: string;
  /** Its handle for one invocation, by `invocation.mode`. Absent: nothing can be asked of it. */
  readonly bind?: (invocation: Invocation) => object;
  /** Its operations outside handlers, where those are not simply a commit each (services, externals). */
  readonly live?: (node: NodeServices) => object;
  /** Its reactions to events of what it follows, as part of the commit that records them. */
  readonly inCommit?: { readonly source: Component; react(event: StagedEvent, invocation: Invocation): Promise<void> | void };
  /** Before anything runs, in order of dependency: seeds, migrations, checks of settings. */
  readonly prepare?: (node: NodeServices) => Promise<void>;
  /** What it runs on a node of its role, between start and stop. */
  readonly part?: (node: NodeServices) => NodePart;
  /** An interface without a handler: how it is implemented. */
  readonly open?: (spec: object, behaviour: unknown) => Implementing;
  /** It is the implementation of this open interface, under whose name it runs and is seen. */
  readonly implements?: Component;
  /** What it needs of its store, and which guarantees each need rests on. Checked when the node starts. */
  readonly needs?: Readonly<Record<Guarantee, readonly Guarantee[]>>;
  /** What the kind's own floor mates need of it (a service's routes, a queue's name); opaque here. */
  readonly interior?: unknown;
}

/** What an implementation adds to its interface. */
export type Implementing = Pick<Definition, "annotations" | "uses" | "role" | "part" | "needs" | "interior">;

/** Something that runs on a node. Started in order of dependency, stopped in reverse. */
export interface NodePart {
  readonly name: string;
  start(): Promise<void>;
  /** Takes no new work, and finishes or hands back what it has. */
  drain(withinMs: number): Promise<void>;
  stop(): Promise<void>;
  /** Nothing is due here now, and nothing is being worked on. */
  idle?(): Promise<boolean>;
}

/** An event on its way into the log. */
export interface StagedEvent {
  /** The component it belongs to. */
  readonly source: Component;
  /** Name of the stream in the store, and the part of it that users know. */
  readonly stream: string;
  readonly key: string | number;
  readonly type: string;
  readonly id: string;
  /** As written, and as the event's schema reads it. */
  readonly data: unknown;
  readonly parsed: unknown;
  /** `undefined` for a stream whose version is assigned at commit. */
  readonly version: number | undefined;
}

const definitions = new WeakMap<object, Definition>();

/** Makes the inert value of a kind. Names are storage identity: `[a-z][a-z0-9-]*`, at most 64 characters. */
export function declareComponent<C extends Component>(kind: C["kind"], name: string, definition: Definition): C {
  if (!/^[a-z][a-z0-9-]{0,63}$/.test(name)) {
    throw Fault.create(
      "component.bad-name",
      `the name of a ${kind} must match [a-z][a-z0-9-]* and have at most 64 characters, got ${JSON.stringify(name)}`,
      "Rename it: the name is its identity in storage, metrics and URLs.",
    );
  }
  return declareUnchecked<C>(kind, name, definition);
}

/** For kinds whose names are not storage identity (settings: names of environment variables). */
export function declareUnchecked<C extends Component>(kind: C["kind"], name: string, definition: Definition): C {
  const component = Object.freeze({ kind, name }) as unknown as C;
  definitions.set(component, definition);
  return component;
}

export function definitionOf(component: Component): Definition {
  const definition = definitions.get(component);
  if (definition) return definition;
  throw Fault.create(
    "component.unknown",
    `${JSON.stringify((component as { name?: unknown } | undefined)?.name ?? component)} is not a component made by this copy of Trestle`,
    "Pass what queue(), service(), aggregate() … returned; check that there is one copy of the package.",
  );
}
