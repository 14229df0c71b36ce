/** Limits of a fleet on one node: they share the place, and what is known of whether it can be reached. */
import type { Component, NodeServices } from "../component/index.ts";
import { emptyContext } from "../kernel/index.ts";
import type { FleetRule } from "./across.ts";
import { FleetLimit } from "./fleet-limit.ts";
import { ReachedPlace } from "./reached-place.ts";
import { StorePlace } from "./store-place.ts";

/** No component can have this name. */
const shared: Component = { kind: "limits", name: "~limits" };

/** Who is told: `component` and `limit` in metrics. */
export function fleetLimitOf(node: NodeServices, rule: FleetRule, told: { readonly component: string; readonly limit: string }): FleetLimit {
  const at = node.local(shared, () => new ReachedPlace(node.limitPlace ?? new StorePlace(node), tellLog(node)));
  const { clock, random, observer } = node;
  const limit = new FleetLimit({ rule, at, clock, random, onUnreachable: () => observer.limitUnreachable?.(told.component, told.limit) });
  observer.limitLeases?.(told.component, told.limit, limit);
  return limit;
}

function tellLog(node: NodeServices): (isAway: boolean, cause?: unknown) => void {
  const log = node.log(shared.name, emptyContext);
  return (isAway, cause) => {
    if (isAway)
      log.warn("limits of the fleet are not reached: each decides as declared", { why: cause instanceof Error ? cause.message : "no answer in time" });
    else log.info("limits of the fleet are reached again");
  };
}
