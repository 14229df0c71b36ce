/**
 * Messages on a local socket: four bytes of length, then the message as structured clone writes it, which is what a message port carries.
 * So the packed batches of wire.ts go between processes as they go between threads. A length is believed up to `frameBytesMax`,
 * and memory is taken as bytes come, not as a length says.
 */
import { DefaultDeserializer, DefaultSerializer } from "node:v8";

/** Far above a batch (4 MiB) and its answer; a statement's rows may come near. */
export const frameBytesMax = 64 * 1_048_576;
const lengthBytes = 4;

/** `undefined` when the message is too large for one. Throws on what cannot be cloned. */
export function frameOf(message: unknown): Buffer | undefined {
  const serializer = new DefaultSerializer();
  serializer.writeRawBytes(Buffer.alloc(lengthBytes));
  serializer.writeHeader();
  serializer.writeValue(message);
  const frame = serializer.releaseBuffer();
  if (frame.length - lengthBytes > frameBytesMax) return undefined;
  frame.writeUInt32BE(frame.length - lengthBytes);
  return frame;
}

export class FrameReader {
  readonly #onMessage: (message: unknown) => void;
  #chunks: Buffer[] = [];
  #size = 0;
  /** Bytes until something can be done. */
  #wanted = lengthBytes;

  constructor(onMessage: (message: unknown) => void) {
    this.#onMessage = onMessage;
  }

  /** Throws on a length beyond the limit, and on bytes that are no message. */
  push(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#size += chunk.length;
    if (this.#size < this.#wanted) return;
    let all = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks, this.#size);
    for (this.#wanted = lengthBytes; all.length >= lengthBytes; this.#wanted = lengthBytes) {
      const length = all.readUInt32BE();
      if (length > frameBytesMax) throw new Error(`a frame of ${length} bytes; at most ${frameBytesMax} are read`);
      this.#wanted = lengthBytes + length;
      if (all.length < this.#wanted) break;
      const deserializer = new DefaultDeserializer(all.subarray(lengthBytes, this.#wanted));
      deserializer.readHeader();
      const message: unknown = deserializer.readValue();
      all = all.subarray(this.#wanted);
      this.#onMessage(message);
    }
    this.#chunks = all.length > 0 ? [all] : [];
    this.#size = all.length;
  }
}
