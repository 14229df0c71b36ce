/** The component model: what a declaration is, and what one run of a handler does. */
export { bytesOf, compressAbove, compressed, decode, encode, encodeText } from "./codec.ts";
export type { Compress } from "./codec.ts";
export type {
  Annotations,
  AwaitedName,
  Awaiting,
  Component,
  Guarantee,
  Handle,
  Handles,
  Inherit,
  Mode,
  Open,
  Usable,
  Uses,
  View,
  Work as WorkSpec,
} from "./component.ts";
export type { Context, DurableContext, Log, Principal, ReadOptions, WriteContext } from "./context.ts";
export { declareComponent, declareUnchecked, definitionOf } from "./definition.ts";
export type { Definition, EdgeOperation, Implementing, NodePart, StagedEvent } from "./definition.ts";
export { execute } from "./execute.ts";
export type { Conclusion, Ended, Work } from "./execute.ts";
export { bindUses } from "./handles.ts";
export { historyOf } from "./history.ts";
export type { HistoryOptions } from "./history.ts";
export { Invocation } from "./invocation.ts";
export { checkTenant, keyText, userKey } from "./user-key.ts";
export { decodeJournal, journalKey } from "./journal.ts";
export type { CallIdentity, Journal } from "./journal.ts";
export type { Draw, Drawn, LimitPlace, LimitPlaceOptions, LimitPlacePackage } from "./limit-place.ts";
export { Lane } from "./lane.ts";
export { beginNow, LogFollower, positionKey } from "./log-follower.ts";
export type { LogFollowing } from "./log-follower.ts";
export type { Fold } from "./lane.ts";
export type { Exchange, Exchanged, NodeServices, Observer, Outside, OutsideCall, Span } from "./node.ts";
export { Overdue } from "./overdue.ts";
export { refusalOf } from "./refusal.ts";
export { isRefused, refuse } from "./outcome.ts";
export type { Refused } from "./outcome.ts";
export type { StreamRead } from "./reading.ts";
export type { RecoveryPoint } from "./recovery.ts";
export type { InvocationFrame } from "./run.ts";
export { indexEntries, listPage } from "./page.ts";
export type { Page, PageQuery } from "./page.ts";
export { StoreClock } from "./store-clock.ts";
export { acceptedAs, parse, parseNow, parseOrFault } from "./schema.ts";
export type { Accepted, In, Issue, Out, Parsed, Payload, Schema } from "./schema.ts";
export { carriedBy, cloudEvent, eventVersions, pendingEvent, readEvent, sourceOf, stageEvent } from "./source.ts";
export type { AnyEvent, Event, EventMeta, EventSchemas, EventVersions, Source, SourceInterior, When, Written } from "./source.ts";
export { WorkContext } from "./work-context.ts";
export { changesOf, resumeIdOf, withResumeId } from "./watch.ts";
