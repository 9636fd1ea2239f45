// A Real NVP of points in the plane, as nvp/flows/toy.py has it: affine couplings whose s and t
// come from a small network of the kept coordinate. Points are a Float64Array x0, y0, x1, y1, ...
// A level says how many couplings lie behind a point: 0 is x, the number of couplings is z. Levels
// in between are bijections too: a coupling of which the share a has been applied is
// x exp(a s) + a t.

/** A flow from the state dict of a `ToyFlow`, as nested lists. */
function readFlow(weights) {
  const couplings = [];
  for (let i = 0; `couplings.${i}.scale` in weights; i++) {
    const get = (name) => Float64Array.from(weights[`couplings.${i}.${name}`].flat(Infinity));
    const layer = (j) => ({ w: get(`net.${j}.weight`), b: get(`net.${j}.bias`) });
    const [first, second, last] = [1, 3, 5].map(layer);
    couplings.push({ kept: i % 2, scale: get("scale")[0], first, second, last });
  }
  return couplings;
}

const silu = (a) => a / (1 + Math.exp(-a));

/** s and t of a coupling for one value of the coordinate that it keeps. */
function scaleAndShift({ scale, first, second, last }, kept) {
  const width = first.b.length;
  const h = new Float64Array(width);
  for (let i = 0; i < width; i++) h[i] = silu(first.w[i] * kept + first.b[i]);
  let [t, raw] = last.b;
  for (let j = 0; j < width; j++) {
    let sum = second.b[j];
    for (let i = 0; i < width; i++) sum += second.w[j * width + i] * h[i];
    const a = silu(sum);
    t += last.w[j] * a;
    raw += last.w[width + j] * a;
  }
  return [scale * Math.tanh(raw), t];
}

/** Move points from one level to another, towards z or back: { points, logDet } of that map. */
function move(flow, points, from, to) {
  const moved = Float64Array.from(points);
  const logDet = new Float64Array(points.length / 2);
  const steps = [...flow.entries()];
  for (const [i, coupling] of to > from ? steps : steps.reverse()) {
    // The shares of this coupling that lie behind the two levels.
    const [a, b] = [from, to].map((level) => Math.min(Math.max(level - i, 0), 1));
    if (a === b) continue;
    for (let p = 0; p < logDet.length; p++) {
      const other = 2 * p + 1 - coupling.kept;
      const [s, t] = scaleAndShift(coupling, moved[2 * p + coupling.kept]);
      // Back to none of the coupling, then on to the other share of it.
      moved[other] = (moved[other] - a * t) * Math.exp((b - a) * s) + b * t;
      logDet[p] += (b - a) * s;
    }
  }
  return { points: moved, logDet };
}

/** log N(z; mean, spread^2 I) + logDet for each point, in nats: eq 2. */
function logDensity({ points, logDet }, mean, spread) {
  return logDet.map((change, p) => {
    const square = (points[2 * p] - mean[0]) ** 2 + (points[2 * p + 1] - mean[1]) ** 2;
    return change - square / (2 * spread ** 2) - Math.log(2 * Math.PI * spread ** 2);
  });
}
