// A Real NVP of images, as nvp/flows has it in evaluation mode: the preset of the paper, of any
// size. Maps are { data, channels, height, width }, with data a Float64Array, one channel after
// another. Latents are one Float64Array, the scale that leaves first before the others: eq 16.

const LOG_TWO_PI = Math.log(2 * Math.PI);
const EPSILON = 1e-4; // of both batch norms
// Positions in a 2 x 2 block are 0 top left, 1 top right, 2 bottom left, 3 bottom right.
const FIGURE_3 = [0, 1, 2, 3]; // the squeeze of section 3.6
const DIAGONAL = [0, 3, 1, 2]; // that by which half of the channels leave

// The weights

/** A convolution whose weight norm is folded into its weights: w = g v / |v|. */
function readConvolution(tensors, name) {
  const { data: v, shape } = tensors[`${name}.v`];
  const [outputs, inputs, kernel] = shape;
  const size = v.length / outputs;
  const weights = new Float64Array(v.length);
  for (let o = 0; o < outputs; o++) {
    const filter = v.subarray(o * size, (o + 1) * size);
    const norm = Math.sqrt(filter.reduce((sum, value) => sum + value * value, 0));
    const gain = (tensors[`${name}.g`]?.data[o] ?? 1) / norm;
    weights.set(filter.map((value) => gain * value), o * size);
  }
  const bias = tensors[`${name}.bias`]?.data ?? new Float64Array(outputs);
  return { weights, bias, inputs, outputs, kernel };
}

/** A batch norm with its running averages, as h -> scale h + shift for each channel. */
function readNorm(tensors, name) {
  const [mean, variance, beta] = ["running_mean", "running_var", "beta"].map(
    (part) => tensors[`${name}.${part}`]?.data,
  );
  const scale = variance.map((value) => 1 / Math.sqrt(value + EPSILON));
  return { scale, shift: scale.map((factor, c) => (beta ? beta[c] : 0) - factor * mean[c]) };
}

function readCoupling(tensors, name, kind) {
  const convolution = (part) => readConvolution(tensors, `${name}.net.${part}`);
  const norm = (part) => readNorm(tensors, `${name}.net.${part}`);
  const blocks = [];
  for (let i = 0; `${name}.net.skips.${i}.v` in tensors; i++)
    blocks.push({
      norm1: norm(`blocks.${i}.norm1`),
      conv1: convolution(`blocks.${i}.conv1`),
      norm2: norm(`blocks.${i}.norm2`),
      conv2: convolution(`blocks.${i}.conv2`),
      skip: convolution(`skips.${i}`),
    });
  return {
    ...kind,
    scale: tensors[`${name}.scale`].data[0],
    norm: readNorm(tensors, `${name}.norm`),
    net: {
      norm: norm("treatment.norm"),
      first: convolution("conv_in"),
      skip: convolution("skip_in"),
      blocks,
      normOut: norm("norm_out"),
      last: convolution("conv_out"),
    },
  };
}

/**
 * The flow that `nvp_book.live.tensors.weights_text` wrote down. A coupling keeps a parity of
 * row + column, 1 for odd, or a half of the channels, 0 for the first.
 */
function readRealNVP(text) {
  const { tensors, metadata } = readTensors(text);
  const config = JSON.parse(metadata.config);
  const [channels, height, width] = config.image_shape;
  const scales = Array.from({ length: config.num_scales }, (_, i) => {
    const couplings = (part, kinds) =>
      kinds.map((kind, j) => readCoupling(tensors, `scales.${i}.${part}.bijections.${j}`, kind));
    // Figure 4a: what is kept alternates; the last scale has a fourth checkerboard, no channels.
    const last = i === config.num_scales - 1;
    const boards = (last ? [1, 0, 1, 0] : [1, 0, 1]).map((kept) => ({ board: true, kept }));
    const halves = last ? [] : [0, 1, 0].map((kept) => ({ board: false, kept }));
    return {
      checkerboard: couplings("checkerboard", boards),
      channelwise: couplings("channelwise", halves),
      last,
    };
  });
  return { scales, alpha: config.alpha, shape: { channels, height, width } };
}

// The network behind s and t (section 3.4)

/** A convolution with zeros around the maps. */
function convolve(maps, { weights, bias, inputs, outputs, kernel }) {
  const { height, width } = maps;
  const area = height * width;
  const data = new Float64Array(outputs * area);
  const pitch = width + 2;
  const size = (height + 2) * pitch;
  const padded = kernel === 3 ? pad(maps) : maps.data;
  for (let o = 0; o < outputs; o++) {
    data.fill(bias[o], o * area, (o + 1) * area);
    for (let i = 0; i < inputs; i++) {
      const from = o * inputs + i;
      if (kernel === 1) {
        const w = weights[from];
        for (let p = o * area, q = i * area; p < (o + 1) * area; p++, q++) data[p] += w * padded[q];
        continue;
      }
      // The 3 x 3 window slides along a row, three new values at a time.
      const [w0, w1, w2, w3, w4, w5, w6, w7, w8] = weights.subarray(9 * from, 9 * from + 9);
      for (let row = 0; row < height; row++) {
        let q = i * size + row * pitch;
        let a0 = padded[q];
        let b0 = padded[q + pitch];
        let c0 = padded[q + 2 * pitch];
        let a1 = padded[++q];
        let b1 = padded[q + pitch];
        let c1 = padded[q + 2 * pitch];
        q++;
        const begin = o * area + row * width;
        for (let p = begin; p < begin + width; p++, q++) {
          const a2 = padded[q];
          const b2 = padded[q + pitch];
          const c2 = padded[q + 2 * pitch];
          data[p] +=
            w0 * a0 + w1 * a1 + w2 * a2 + w3 * b0 + w4 * b1 + w5 * b2 + w6 * c0 + w7 * c1 + w8 * c2;
          a0 = a1;
          a1 = a2;
          b0 = b1;
          b1 = b2;
          c0 = c1;
          c1 = c2;
        }
      }
    }
  }
  return { data, channels: outputs, height, width };
}

/** The data of maps with a border of zeros, one wide. */
function pad({ data, channels, height, width }) {
  const padded = new Float64Array(channels * (height + 2) * (width + 2));
  for (let line = 0; line < channels * height; line++) {
    const [channel, row] = [Math.floor(line / height), line % height];
    const to = (channel * (height + 2) + row + 1) * (width + 2) + 1;
    padded.set(data.subarray(line * width, (line + 1) * width), to);
  }
  return padded;
}

/** max(0, factor (scale h + shift)) for each channel. */
function rectified(maps, { scale, shift }, factor = 1) {
  const area = maps.height * maps.width;
  const data = new Float64Array(maps.data.length);
  for (let c = 0; c < maps.channels; c++) {
    const [a, b] = [factor * scale[c], factor * shift[c]];
    for (let p = c * area; p < (c + 1) * area; p++) data[p] = Math.max(0, a * maps.data[p] + b);
  }
  return { ...maps, data };
}

/** Add other maps to maps. */
function accumulate(maps, { data }) {
  for (let p = 0; p < data.length; p++) maps.data[p] += data[p];
}

const parity = (p, width) => (Math.floor(p / width) + (p % width)) % 2; // of row + column

/** t, then the pre-activation of s, for what a coupling keeps. */
function runNet(net, seen, coupling) {
  const { data, channels, height, width } = seen;
  const area = height * width;
  const isBoard = coupling.board;
  const treated = new Float64Array((2 * channels + isBoard) * area);
  // As the official code has it: [h, -h], doubled for a checkerboard, which stands beside it.
  const factor = isBoard ? 2 : 1;
  treated.set(rectified(seen, net.norm, factor).data);
  treated.set(rectified(seen, net.norm, -factor).data, channels * area);
  if (isBoard)
    for (let p = 0; p < area; p++)
      treated[2 * channels * area + p] = parity(p, width) === coupling.kept;
  const h = convolve({ data: treated, channels: 2 * channels + isBoard, height, width }, net.first);
  const total = convolve(h, net.skip);
  for (const { norm1, conv1, norm2, conv2, skip } of net.blocks) {
    const inner = convolve(rectified(h, norm1), conv1);
    accumulate(h, convolve(rectified(inner, norm2), conv2));
    accumulate(total, convolve(h, skip));
  }
  return convolve(rectified(total, net.normOut), net.last).data;
}

// The bijections

/**
 * A coupling (eqs 7 to 9) and the batch norm behind it, or both undone; log |det| of that map.
 * The maps are changed in place.
 */
function couple(maps, coupling, undo) {
  const { data, channels, height, width } = maps;
  const area = height * width;
  const { board, kept, norm, scale } = coupling;
  let logDet = 0;
  const normalise = () => {
    for (let c = 0; c < channels; c++) {
      const [factor, shift] = [norm.scale[c], norm.shift[c]];
      for (let p = c * area; p < (c + 1) * area; p++)
        data[p] = undo ? (data[p] - shift) / factor : factor * data[p] + shift;
      logDet += (undo ? -area : area) * Math.log(factor);
    }
  };
  if (undo) normalise();
  // The net sees b x: the maps with zeros for the other squares, or the kept half of the maps.
  const count = board ? channels : channels / 2;
  const from = board ? 0 : kept * count * area;
  const to = board ? 0 : (1 - kept) * count * area;
  const seen = data.slice(from, from + count * area);
  const isKept = (p) => board && parity(p, width) === kept;
  if (board) for (let p = 0; p < seen.length; p++) if (!isKept(p % area)) seen[p] = 0;
  const output = runNet(coupling.net, { data: seen, channels: count, height, width }, coupling);
  for (let p = 0; p < seen.length; p++) {
    if (isKept(p % area)) continue;
    const t = output[p];
    const s = scale * Math.tanh(output[seen.length + p]);
    const x = data[to + p];
    data[to + p] = undo ? (x - t) * Math.exp(-s) : x * Math.exp(s) + t;
    logDet += undo ? -s : s;
  }
  if (!undo) normalise();
  return logDet;
}

/** Call `visit` with the place of every value in maps of this shape, and in those of a squeeze. */
function eachSqueezed({ channels, height, width }, order, visit) {
  const [rows, columns] = [height / 2, width / 2];
  order.forEach((position, k) => {
    for (let c = 0; c < channels; c++)
      for (let row = 0; row < rows; row++)
        for (let column = 0; column < columns; column++) {
          const [y, x] = [2 * row + (position >> 1), 2 * column + (position % 2)];
          const squeezed = ((k * channels + c) * rows + row) * columns + column;
          visit((c * height + y) * width + x, squeezed);
        }
  });
}

/** c x h x w -> 4 c x h/2 x w/2 */
function squeeze(maps, order) {
  const data = new Float64Array(maps.data.length);
  eachSqueezed(maps, order, (large, small) => (data[small] = maps.data[large]));
  return { data, channels: 4 * maps.channels, height: maps.height / 2, width: maps.width / 2 };
}

function unsqueeze(maps, order) {
  const data = new Float64Array(maps.data.length);
  const shape = { channels: maps.channels / 4, height: 2 * maps.height, width: 2 * maps.width };
  eachSqueezed(shape, order, (large, small) => (data[large] = maps.data[small]));
  return { data, ...shape };
}

/** f: logits of an image -> { z, logDet } (eqs 13 to 16). */
function encode({ scales, shape }, logits) {
  let h = { ...shape, data: Float64Array.from(logits) };
  let logDet = 0;
  const z = new Float64Array(logits.length);
  let begin = 0;
  for (const scale of scales) {
    for (const coupling of scale.checkerboard) logDet += couple(h, coupling, false);
    if (scale.last) break;
    h = squeeze(h, FIGURE_3);
    for (const coupling of scale.channelwise) logDet += couple(h, coupling, false);
    h = squeeze(unsqueeze(h, FIGURE_3), DIAGONAL);
    const middle = h.data.length / 2; // the second half of the channels leaves
    z.set(h.data.subarray(middle), begin);
    begin += middle;
    h = { ...h, data: h.data.slice(0, middle), channels: h.channels / 2 };
  }
  z.set(h.data, begin);
  return { z, logDet };
}

/** g: z -> { logits, logDet }. */
function decode({ scales, shape }, z) {
  const coarsest = 2 ** (scales.length - 1);
  let end = z.length - z.length / coarsest;
  let h = {
    data: z.slice(end),
    channels: shape.channels * coarsest,
    height: shape.height / coarsest,
    width: shape.width / coarsest,
  };
  let logDet = 0;
  for (const scale of [...scales].reverse()) {
    if (!scale.last) {
      const data = new Float64Array(2 * h.data.length);
      data.set(h.data);
      data.set(z.subarray(end - h.data.length, end), h.data.length);
      end -= h.data.length;
      h = squeeze(unsqueeze({ ...h, data, channels: 2 * h.channels }, DIAGONAL), FIGURE_3);
      for (const coupling of [...scale.channelwise].reverse()) logDet += couple(h, coupling, true);
      h = unsqueeze(h, FIGURE_3);
    }
    for (const coupling of [...scale.checkerboard].reverse()) logDet += couple(h, coupling, true);
  }
  return { logits: h.data, logDet };
}

// Pixels, and what is done with latents

/** y = logit(alpha + (1 - 2 alpha) x), x in [0, 1] (section 4.1). */
function logitsOf({ alpha }, pixels) {
  return pixels.map((x) => {
    const share = alpha + (1 - 2 * alpha) * x;
    return Math.log(share / (1 - share));
  });
}

/** x of `logitsOf`. Far from the data it leaves [0, 1] by a little. */
function pixelsOf({ alpha }, logits) {
  return logits.map((y) => (1 / (1 + Math.exp(-y)) - alpha) / (1 - 2 * alpha));
}

/** -log2 p(x) per dimension, from z = f(y) and log |det df/dy|: eq 3, every term counted. */
function bitsPerDim({ alpha }, { z, logits, logDet }) {
  const nats = z.reduce((sum, value, i) => {
    // log dy/dx = log (1 - 2 alpha) - log sigmoid(y) - log sigmoid(-y)
    const size = Math.abs(logits[i]);
    const change = Math.log(1 - 2 * alpha) + size + 2 * Math.log1p(Math.exp(-size));
    return sum - (value ** 2 + LOG_TWO_PI) / 2 + change - Math.log(256);
  }, logDet);
  return -nats / (z.length * Math.LN2);
}

/** Eq 19: the manifold of four latents. */
function onManifold([z1, z2, z3, z4], phi, psi) {
  const [a, b] = [Math.cos(phi) * Math.cos(psi), Math.cos(phi) * Math.sin(psi)];
  const [c, d] = [Math.sin(phi) * Math.cos(psi), Math.sin(phi) * Math.sin(psi)];
  return z1.map((value, i) => a * value + b * z2[i] + c * z3[i] + d * z4[i]);
}

/** How many latents leave with each scale, the first before all others: D/2, D/4, ..., rest. */
function countsByScale({ scales, shape }) {
  let left = shape.channels * shape.height * shape.width;
  return scales.map(({ last }) => {
    if (!last) left /= 2;
    return left;
  });
}
