/** Chance. `systemRandom` for production, `seededRandom` for tests, the simulator, and whatever must come out the same again. */
import { randomFillSync } from "node:crypto";

export interface Random {
  /** At least 0, below 1; 32 bits of chance. */
  next(): number;
  /** An integer from 0 to 2^32 - 1. */
  uint32(): number;
}

// One system call for 256 numbers: crypto.getRandomValues per number costs 20 times as much.
const pool = new Uint32Array(256);
let used = pool.length;

export const systemRandom: Random = {
  uint32() {
    if (used === pool.length) {
      randomFillSync(pool);
      used = 0;
    }
    return pool[used++] as number;
  },
  next: () => systemRandom.uint32() / 4_294_967_296,
};

/** sfc32 (Chris Doty-Humphrey, PractRand), seeded from a text by FNV-1a and warmed up by 12 rounds. */
export function seededRandom(seed: string | number): Random {
  const text = String(seed);
  let hash = 2_166_136_261;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 16_777_619);
  let a = hash | 0,
    b = Math.imul(hash, 2_654_435_761) | 0,
    c = ~hash | 0,
    counter = 1;
  const uint32 = () => {
    const sum = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return sum >>> 0;
  };
  for (let i = 0; i < 12; i++) uint32();
  return { uint32, next: () => uint32() / 4_294_967_296 };
}
