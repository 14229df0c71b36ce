/** A piece alone: one component, its own engine, no app. */
import type { Component, Usable } from "../component/index.ts";
import { app } from "./app.ts";
import { awaited, reachable } from "./graph.ts";
import type { Engines } from "./engines.ts";
import type { Live } from "./live.ts";
import { start } from "./start.ts";

/** Its handlers run here too. The store is `sqlite:./.trestle/<name>.db` unless given. */
export async function open<C extends Usable>(component: C, engines: Engines = {}): Promise<Live<C> & AsyncDisposable> {
  const inert = component as unknown as Component;
  // What nobody here implements is asked by its URL, or waits in the store for whoever does.
  const node = await start(app(nameOf(inert), [inert], { elsewhere: awaited(reachable([inert])) }), engines);
  const opened = node.open(component) as object;
  return new Proxy(opened, {
    get: (target, name) => (name === Symbol.asyncDispose ? () => node.stop() : (Reflect.get(target, name) as unknown)),
  }) as Live<C> & AsyncDisposable;
}

/** Settings are named like variables, apps are not. */
function nameOf({ name }: Component): string {
  return name.toLowerCase().replaceAll("_", "-").replace(/^-+/, "");
}
