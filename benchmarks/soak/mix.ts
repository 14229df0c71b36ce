/** What is asked: orders, each with a job; carts; and readers for the rest. */
export const ordersShare = 0.6;
export const cartsShare = 0.2;
