/** Operations that callers wait for: over HTTP, or from another component. */
export type { Admission } from "./admission.ts";
export { admittingOf, answersKeptForMs, rungsOf } from "./interior.ts";
export type { Limit } from "./limit.ts";
export { page } from "./page.ts";
export { faultResponse, problemOfFault } from "./problem.ts";
export type { Problem } from "./problem.ts";
export { accepted, created, html, noContent, ok } from "./reply.ts";
export type { Reply, ReplyHeaders } from "./reply.ts";
export { del, get, patch, post, put, sse } from "./route.ts";
export type {
  AnswerOf,
  Anything,
  Body,
  Call,
  CallBy,
  CallOf,
  Client,
  CommandSpec,
  ContextOf,
  Contract,
  ContractAnswer,
  GetSpec,
  Handler,
  Idempotent,
  IdempotentCall,
  Incoming,
  ModeOf,
  NamesOf,
  NoBody,
  Nothing,
  OnlyInADurableHandler,
  OpenIfContract,
  OperationOf,
  PathName,
  PathSchema,
  Plain,
  QuerySpec,
  Refusals,
  RefusalStatus,
  Returnable,
  Route,
  RoutePath,
  SafeCall,
  Writing,
  WrongParams,
} from "./route.ts";
export { serviceRoutes } from "./routes.ts";
export type { ArrivedRequest, FetchHandler, Peer } from "./routes.ts";
export { admittedLately } from "./state.ts";
export { service } from "./service.ts";
export type { Service, ServiceSpec } from "./service.ts";
