/** The frame. Declare components with these, start them, test them. */
export { app, open, start } from "./app/index.ts";
export type { App, AppSpec, Engines, Graph, Live, Node, StartOptions, Transaction } from "./app/index.ts";
export { refuse } from "./component/index.ts";
export type { Annotations, Component, Context, DurableContext, Handle, Handles, In, Out, Page, PageQuery, Principal, Refused, Schema, Usable, Uses, View, WriteContext } from "./component/index.ts";
export { aggregate, command, projection } from "./events/index.ts";
export type { Accepted, Aggregate, Projection } from "./events/index.ts";
export { Fault } from "./kernel/index.ts";
export type { FaultCode } from "./kernel/index.ts";
export { records } from "./records/index.ts";
export type { Records } from "./records/index.ts";
