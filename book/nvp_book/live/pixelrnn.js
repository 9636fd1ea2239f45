// A Pixel RNN of black and white images, one pixel at a time, as nvp/autoregressive/sampling.py has
// it: layers of the Diagonal BiLSTM with residual and skip connections. A layer keeps the states
// that later pixels read, so a whole image costs the arithmetic of one pass. Images are
// Uint8Arrays of 0 and 1, row by row.

/** The network that `nvp_book.live.tensors.weights_text` wrote down. */
function readPixelRNN(text) {
  const { tensors, metadata } = readTensors(text);
  const [, height, width] = JSON.parse(metadata.config).image_shape;
  const linear = (name) => ({
    weights: tensors[`${name}.weight`].data,
    bias: tensors[`${name}.bias`].data,
  });

  // Mask A: the rows above, and what is on the left in the row itself.
  const { data: kernels, shape } = tensors["first.weight"];
  const side = shape[2];
  const [middle, count] = [side >> 1, (side * side - 1) / 2];
  const taps = Array.from({ length: count }, (_, tap) => [
    Math.floor(tap / side) - middle,
    (tap % side) - middle,
  ]);
  const weights = kernels.filter((_, i) => i % (side * side) < count);
  const first = { taps, weights, bias: tensors["first.bias"].data };

  const layers = [];
  for (let i = 0; `layers.${i}.core.initial` in tensors; i++) {
    const name = `layers.${i}.core`;
    const { data: initial, shape: sizes } = tensors[`${name}.initial`];
    const hidden = sizes[3];
    const { data: recurrent } = tensors[`${name}.state_to_state`];
    const directions = [0, 1].map((direction) => ({
      // (2, h, 4h) of the package, transposed: from the state beside and the one above.
      fromStates: [0, 1].map((tap) =>
        Float64Array.from({ length: 4 * hidden * hidden }, (_, j) => {
          const [gate, unit] = [Math.floor(j / hidden), j % hidden];
          return recurrent[((2 * direction + tap) * hidden + unit) * 4 * hidden + gate];
        }),
      ),
      // The learned h and c in front of each row.
      begin: (row) =>
        [0, 1].map((part) => {
          const start = ((2 * direction + part) * height + row) * hidden;
          return initial.subarray(start, start + hidden);
        }),
    }));
    layers.push({
      hidden,
      directions,
      toGates: linear(`${name}.input_to_state`),
      up: linear(`layers.${i}.up`),
      skip: linear(`layers.${i}.skip`),
    });
  }
  const head = [0, 1, 2].map((i) => linear(`head.convs.${i}`));
  return { height, width, first, layers, head };
}

/** Add W x to `to`; W is (outputs, inputs), row by row. */
function addProduct(to, weights, x) {
  for (let o = 0, w = 0; o < to.length; o++) {
    let sum = 0;
    for (let i = 0; i < x.length; i++, w++) sum += weights[w] * x[i];
    to[o] += sum;
  }
  return to;
}

const affine = ({ weights, bias }, x) => addProduct(bias.slice(), weights, x);
const added = (a, b) => a.map((value, i) => value + b[i]);
const sigmoid = (a) => 1 / (1 + Math.exp(-a));

/** Eq 3 for one pixel: the new h and c. */
function lstmStep({ fromStates }, inputs, [beside, c], above) {
  const gates = inputs.slice();
  addProduct(gates, fromStates[0], beside);
  addProduct(gates, fromStates[1], above);
  const hidden = c.length;
  const gate = (number, k) => gates[number * hidden + k];
  const cell = c.map(
    (old, k) => sigmoid(gate(1, k)) * old + sigmoid(gate(2, k)) * Math.tanh(gate(3, k)),
  );
  return [cell.map((value, k) => sigmoid(gate(0, k)) * Math.tanh(value)), cell];
}

/** Before the first pixel. `count` pixels of the image are known, and what they cost in nats. */
function beginImage({ height, width, layers }) {
  const kept = layers.map(({ hidden }) => {
    const zeros = Array(width).fill(new Float64Array(hidden));
    // States of the row above by direction, those of this row, the last h and c, and the gates
    // that wait for the other direction, which reads a row when it is complete.
    return { above: zeros, right: zeros, here: [], last: null, waiting: [] };
  });
  const size = height * width;
  return { image: new Uint8Array(size), costs: new Float64Array(size), count: 0, kept };
}

/** The logit of p(x_i = 1 | x_<i) for the next pixel. */
function nextLogit({ width, first, layers, head }, { image, count, kept }) {
  const [row, column] = [Math.floor(count / width), count % width];
  const patch = first.taps.map(([down, right]) => {
    const [y, x] = [row + down, column + right];
    return y >= 0 && x >= 0 && x < width ? 2 * image[y * width + x] - 1 : 0;
  });
  let x = affine(first, patch);
  let toHead = new Float64Array(x.length);
  layers.forEach(({ hidden, directions, toGates, up, skip }, i) => {
    const states = kept[i];
    const gates = affine(toGates, x);
    states.waiting[column] = gates.subarray(4 * hidden);
    const before = column ? states.last : directions[0].begin(row);
    const above = states.above[column];
    states.last = lstmStep(directions[0], gates.subarray(0, 4 * hidden), before, above);
    states.here[column] = states.last[0];
    const h = added(states.last[0], states.right[column]); // the shift down by one row
    x = added(x, affine(up, h));
    toHead = added(toHead, affine(skip, h));
  });
  const rectify = (a) => a.map((value) => Math.max(0, value));
  return head.reduce((maps, layer) => affine(layer, rectify(maps)), added(x, toHead))[0];
}

/** Enter the level of the next pixel. */
function putPixel({ width, layers }, state, level) {
  state.image[state.count] = level;
  state.count++;
  if (state.count % width) return;
  const row = state.count / width - 1;
  layers.forEach(({ directions }, i) => {
    const states = state.kept[i];
    let last = directions[1].begin(row);
    for (let column = width - 1; column >= 0; column--) {
      last = lstmStep(directions[1], states.waiting[column], last, states.right[column]);
      states.right[column] = last[0];
    }
    states.above = states.here;
    states.here = [];
  });
}

/** -log p of a level, from the logit of 1. */
function natsOf(logit, level) {
  const a = level ? -logit : logit;
  return Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)));
}

/** Go on by one pixel, whose level `choose` takes from its logit. */
function nextPixel(network, state, choose) {
  const logit = nextLogit(network, state);
  const level = choose(logit);
  state.costs[state.count] = natsOf(logit, level);
  putPixel(network, state, level);
}

/** The level that a uniform number in [0, 1) chooses. */
const drawnLevel = (logit, uniform) => Number(uniform >= sigmoid(-logit));
