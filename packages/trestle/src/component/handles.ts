/** What a handler receives for its `uses`: an object whose members are bound when they are first looked at. */
import type { Component, Uses } from "./component.ts";
import type { Invocation } from "./invocation.ts";

const invocationOf: unique symbol = Symbol("invocation");
interface Bound {
  readonly [invocationOf]: Invocation;
}
const shapes = new WeakMap<Uses, new (invocation: Invocation) => object>();
const nothing: Uses = {};

/** One class per `uses`, so that an invocation allocates one small object, and only what it touches counts as used. */
export function bindUses(uses: Uses | undefined, invocation: Invocation): object {
  const key = uses ?? nothing;
  let Shape = shapes.get(key);
  if (!Shape) {
    Shape = class {
      readonly [invocationOf]: Invocation;
      constructor(bound: Invocation) {
        this[invocationOf] = bound;
      }
    };
    for (const [name, component] of Object.entries(key)) {
      Object.defineProperty(Shape.prototype, name, {
        enumerable: true,
        get(this: Bound) {
          return this[invocationOf].handle(component as unknown as Component);
        },
      });
    }
    shapes.set(key, Shape);
  }
  return new Shape(invocation);
}
