/** What the shop sells on its first day. Amounts whose cents end in 13 are declined by the payment provider: try the horseshoe. */
export const catalogue = [
  { sku: "TRE-001", name: "Trestle table", priceCents: 18900, about: "Two frames, one board. Carries more than it weighs." },
  { sku: "LMP-002", name: "Reading lamp", priceCents: 4900, about: "A warm circle of light, and a switch you can find in the dark." },
  { sku: "CHR-003", name: "Ash chair", priceCents: 12900, about: "Steam-bent back, woven seat, no glue." },
  { sku: "SHF-004", name: "Wall shelf", priceCents: 7400, about: "Holds forty paperbacks or nine cookbooks." },
  { sku: "CLK-005", name: "Station clock", priceCents: 5900, about: "Waits for the full minute, like everybody else." },
  { sku: "STO-006", name: "Step stool", priceCents: 6200, about: "Three steps up, and folds flat behind a door." },
  { sku: "VAS-007", name: "Stoneware vase", priceCents: 3800, about: "Thrown by hand, glazed in river green." },
  { sku: "RUG-008", name: "Wool rug", priceCents: 21900, about: "Flat-woven, 140 by 200, softer every year." },
  { sku: "KET-009", name: "Enamel kettle", priceCents: 4600, about: "Whistles a third, not a scream." },
  { sku: "MIR-010", name: "Round mirror", priceCents: 8800, about: "Sixty centimetres of honest glass." },
  { sku: "PLT-011", name: "Potted fern", priceCents: 2400, about: "Forgives a week without water." },
  { sku: "HRS-012", name: "Lucky horseshoe", priceCents: 1313, about: "Amounts that end in 13 are declined. See what happens then." },
] as const satisfies readonly { readonly sku: string; readonly name: string; readonly priceCents: number; readonly about: string }[];

/** A thousand kinds of screw in deep drawers, for load tests that need many products or an inexhaustible one. */
export const spareParts = Array.from({ length: 1_000 }, (_, number) => ({
  sku: `SCR-${String(number).padStart(3, "0")}`,
  name: `Box of screws no. ${number}`,
  priceCents: 300 + (number % 7) * 100,
  about: "Brass, countersunk.",
}));

/** How many of a product there are before the first order. */
export function firstStock(sku: string): number {
  return sku.startsWith("SCR-") ? 1_000_000 : 1_000;
}
