/** What both servers accept. */
import { z } from "zod";

export const PlaceOrder = z.object({
  customer: z.string().min(1).max(200),
  email: z.email().max(320),
  items: z
    .array(z.object({ sku: z.string().regex(/^[A-Z]{3}-\d{3}$/), quantity: z.int().positive().max(100) }))
    .min(1)
    .max(50),
});
