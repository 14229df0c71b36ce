/**
 * The slope of y over x by least squares, of points that are forgotten by and by, and sooner the farther x has moved since: what is wanted is the slope here. Its error is what the points
 * scatter, which takes three of them; or, where their own variance is known, what that makes of it, if that is more.
 */
export class Slope {
  value = Number.NaN;
  error = Infinity;
  #points = 0;
  #weight = 0;
  #meanX = 0;
  #meanY = 0;
  #xx = 0;
  #xy = 0;
  #yy = 0;
  #lastX = 0;

  /** Surely more than a half. */
  get isSteep(): boolean {
    return this.value - this.error > 0.5;
  }
  /** Surely less than a half. */
  get isFlat(): boolean {
    return this.value + this.error < 0.5;
  }

  forget(): void {
    this.#points = this.#weight = this.#meanX = this.#meanY = this.#xx = this.#xy = this.#yy = 0;
    this.value = Number.NaN;
    this.error = Infinity;
  }

  add(x: number, y: number, variance?: number): void {
    const keep = 0.85 ** (1 + Math.abs(x - this.#lastX) / 0.1);
    const weight = 1 / (variance ?? 1);
    this.#lastX = x;
    this.#points = this.#points * keep + 1;
    this.#weight = this.#weight * keep + weight;
    const [dx, dy] = [x - this.#meanX, y - this.#meanY];
    this.#meanX += (dx * weight) / this.#weight;
    this.#meanY += (dy * weight) / this.#weight;
    this.#xx = this.#xx * keep + weight * dx * (x - this.#meanX);
    this.#xy = this.#xy * keep + weight * dx * (y - this.#meanY);
    this.#yy = this.#yy * keep + weight * dy * (y - this.#meanY);
    if (this.#xx <= 0) return;
    this.value = this.#xy / this.#xx;
    const least = variance === undefined ? 0 : 1;
    const scatter = this.#points > 2.5 ? Math.max(1e-9, this.#yy - this.value * this.#xy) / (this.#points - 2) : least || Infinity;
    this.error = Math.sqrt(Math.max(least, scatter) / this.#xx);
  }
}
