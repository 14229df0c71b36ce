/** Limits of a fleet on one node: they share the place, and what is known of whether it can be reached. */
import type { Component, NodeServices } from "../component/index.ts";
import { emptyContext } from "../kernel/index.ts";
import type { FleetRule } from "./across.ts";
import { FleetLimit } from "./fleet-limit.ts";
import { ReachedPlace, type Told } from "./reached-place.ts";
import { StorePlace } from "./store-place.ts";

/** No component can have this name. */
const shared: Component = { kind: "limits", name: "~limits" };

/** Who is told: `component` and `limit` in metrics. */
export function fleetLimitOf(node: NodeServices, rule: FleetRule, told: { readonly component: string; readonly limit: string }): FleetLimit {
  const at = node.local(shared, () => new ReachedPlace(node.limitPlace ?? new StorePlace(node), node.clock, tellLog(node)));
  const { clock, random, observer } = node;
  const limit = new FleetLimit({
    rule,
    at,
    clock,
    random,
    onUnreachable: () => observer.limitUnreachable?.(told.component, told.limit),
    told: tellLog(node, `limit ${told.limit} of ${told.component}`),
  });
  observer.limitLeases?.(told.component, told.limit, limit);
  return limit;
}

function tellLog(node: NodeServices, whose = "each limit of the fleet"): Told {
  const log = node.log(shared.name, emptyContext);
  return (isAway, cause) => {
    if (isAway)
      log.warn(`counters of the fleet are not reached: ${whose} decides as declared`, { why: cause instanceof Error ? cause.message : "no answer in time" });
    else log.info(`counters of the fleet are reached again: ${whose} asks there`);
  };
}
