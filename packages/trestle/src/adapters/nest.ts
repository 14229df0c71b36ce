/** The edge and policies as a Nest module, without decorators. */
import type { IncomingMessage } from "node:http";
import type { Policy } from "../resilience/index.ts";
import type { EdgeOptions } from "./edge.ts";
import { expressEdge } from "./express.ts";

export interface NestEdgeOptions<Request extends IncomingMessage> extends EdgeOptions<Request> {
  /** Policies to inject, by token: `{ payments: pipeline(…) }` and `@Inject("payments")`. */
  readonly policies?: Readonly<Record<string, Policy<string>>>;
}

/** What is used of Nest's `MiddlewareConsumer`. */
export interface NestConsumerLike {
  apply(...middleware: never[]): { forRoutes(...routes: string[]): unknown };
}

/** A dynamic module, as Nest has them. */
export interface NestModule {
  readonly module: new () => { configure(consumer: NestConsumerLike): void };
  readonly global: true;
  readonly providers: { provide: string; useValue: Policy<string> }[];
  readonly exports: string[];
}

/** For `imports` of the root module; every route passes it, and every module can have its `policies` injected. Faults: those of `edge`. */
export function nestEdge<Request extends IncomingMessage = IncomingMessage>({ policies = {}, ...options }: NestEdgeOptions<Request>): NestModule {
  const middleware = expressEdge(options);
  return {
    module: class TrestleEdge {
      configure(consumer: NestConsumerLike): void {
        consumer.apply(middleware as never).forRoutes("{*path}");
      }
    },
    global: true,
    providers: Object.entries(policies).map(([provide, useValue]) => ({ provide, useValue })),
    exports: Object.keys(policies),
  };
}
