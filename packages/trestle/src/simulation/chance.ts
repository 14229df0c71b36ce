/** Chance as users and plans take it: whole things, from one stream of numbers. */
import { formatUuidv4, type Random } from "../kernel/index.ts";

export interface Chance {
  /** At least 0, below 1. */
  next(): number;
  pick<T>(from: readonly T[]): T;
  /** Both ends may come. */
  integer(from: number, to: number): number;
  /** A UUIDv4. */
  id(): string;
}

export function chanceOf(random: Random): Chance {
  const next = (): number => random.next();
  return {
    next,
    pick: (from) => from[Math.floor(next() * from.length)] as never,
    integer: (from, to) => from + Math.floor(next() * (to - from + 1)),
    id() {
      const words = Uint32Array.of(random.uint32(), random.uint32(), random.uint32(), random.uint32());
      return formatUuidv4(new Uint8Array(words.buffer));
    },
  };
}
