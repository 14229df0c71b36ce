/**
 * What `fetch` refuses to send at all: to a blocked port, or by a scheme that it does not know. It is the caller's mistake and says nothing of anybody else, but its error says so
 * in its text only, and what an answer redirects to is refused with the same one.
 */

/** "Port blocking" of the Fetch standard, 2.9. */
const blockedPorts: ReadonlySet<number> = new Set([
  0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137,
  139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049,
  3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
]);

/** `thrown`, with undici's code of a request that is not valid when that is what `fetch` says of this URL: `failureOf` takes it for a refusal then. */
export function toldIfUnsendable(thrown: unknown, { protocol, port }: URL): unknown {
  const text = thrown instanceof TypeError && thrown.cause instanceof Error ? thrown.cause.message : "";
  const isWeb = /^https?:$/.test(protocol);
  const isUnsent = isWeb ? text === "bad port" && port !== "" && blockedPorts.has(Number(port)) : text === "unknown scheme";
  return isUnsent ? Object.assign(thrown as TypeError, { code: "UND_ERR_INVALID_ARG" }) : thrown;
}
