// What a pixel depends on: a forward pass with sets in place of numbers, unions in place of sums.
// A map holds a set for every pixel of a board, row by row; a set is a BigInt whose bit q says
// whether pixel q of the image is in it. A layer takes a map to the next one, by the rules of
// nvp/autoregressive and nvp/flows, for images of one channel.

/** The set at (row, column) of a map; empty outside the board, as zero padding is. */
const setAt = (map, row, column) => map[row]?.[column] ?? 0n;

/** A new map, whose sets rule(set, row, column, made) makes; earlier ones are in `made`. */
function eachPixel(map, rule) {
  const made = [];
  map.forEach((sets, row) => {
    made.push([]);
    sets.forEach((set, column) => made[row].push(rule(set, row, column, made)));
  });
  return made;
}

/** A masked convolution: `up` rows above and `side` columns on either side; the centre for B. */
function maskedConvolution(mask, up, side) {
  return (map) =>
    eachPixel(map, (own, row, column) => {
      let seen = mask === "B" ? own : 0n;
      for (let c = -side; c <= side; c++) {
        for (let r = 1; r <= up; r++) seen |= setAt(map, row - r, column + c);
        if (c < 0) seen |= setAt(map, row, column + c);
      }
      return seen;
    });
}

/** Input to state: the row's left neighbours and itself; state to state: the row above. */
function rowLSTM(side) {
  const inputToState = maskedConvolution("B", 0, side);
  return (map) =>
    eachPixel(inputToState(map), (state, row, column, states) => {
      for (let c = -side; c <= side; c++) state |= setAt(states, row - 1, column + c);
      return state;
    });
}

/** Two scans, from the left and from the right; the second one's map is shifted down by a row. */
function diagonalBiLSTM(map) {
  const mirrored = (sets) => sets.map((line) => [...line].reverse());
  const scan = (input) =>
    eachPixel(input, (state, row, column, states) => {
      return state | setAt(states, row, column - 1) | setAt(states, row - 1, column);
    });
  const right = mirrored(scan(mirrored(map)));
  return eachPixel(scan(map), (left, row, column) => left | setAt(right, row - 1, column));
}

/** Position in the 2 x 2 block -> channel after a squeeze: 0 top left, 1 top right, 2, 3 below. */
const SQUEEZE = { position: [0, 1, 2, 3], diagonal: [0, 2, 3, 1] };

/** Where a squeeze puts a pixel of an image of one channel: its block and its channel. */
function squeezed(row, column, order) {
  const position = 2 * (row % 2) + (column % 2);
  return { row: row >> 1, column: column >> 1, channel: SQUEEZE[order][position] };
}

/**
 * A coupling: kept pixels (b = 1) pass; the others also read the kept ones within `reach`, which
 * counts pixels, or blocks of 2 x 2 where the networks work on a squeezed image.
 */
function coupling(kept, reach, block) {
  const first = (i) => block * (Math.floor(i / block) - reach);
  const end = (i) => first(i) + block * (2 * reach + 1);
  return (map) =>
    eachPixel(map, (seen, row, column) => {
      if (kept(row, column)) return seen;
      for (let r = first(row); r < end(row); r++)
        for (let c = first(column); c < end(column); c++)
          if (kept(r, c)) seen |= setAt(map, r, c);
      return seen;
    });
}

/**
 * The layers of a model, first to last, each { name, apply } and, for couplings, kept(row, column).
 *
 * kind: "convolutions", "row" or "diagonal" (`mask` of the first layer, whose kernel is `first`
 * wide, as the later ones are `kernel` wide), or "checkerboard", "channels" or "scale" (networks
 * with `blocks` residual blocks, squeeze `order`).
 */
function layersOf({ kind, count, mask, first, kernel, blocks, order }) {
  const reach = 1 + 2 * blocks; // a 3 x 3 convolution, and two in each block
  const board = (i) => {
    const kept = (row, column) => (row + column) % 2 !== i % 2;
    return { name: `checkerboard ${i + 1}`, kept, apply: coupling(kept, reach, 1) };
  };
  const channels = (i) => {
    const kept = (row, column) => squeezed(row, column, order).channel >> 1 === i % 2;
    const name = `channel-wise ${i + 1}`;
    return { name, kept, squeezed: true, apply: coupling(kept, reach, 2) };
  };
  const [begin, side] = [first >> 1, kernel >> 1];
  const later = {
    convolutions: { name: "mask B", apply: maskedConvolution("B", side, side) },
    row: { name: "Row LSTM", apply: rowLSTM(side) },
    diagonal: { name: "Diagonal BiLSTM", apply: diagonalBiLSTM },
  };
  const boards = { checkerboard: count, channels: 0, scale: 3 }; // and channels after them
  return Array.from({ length: count }, (_, i) => {
    if (kind in boards) return i < boards[kind] ? board(i) : channels(i - boards[kind]);
    if (i > 0) return later[kind];
    return { name: `mask ${mask}`, apply: maskedConvolution(mask, begin, begin) };
  });
}

/** The maps after each layer, first to last, in raster order. */
function mapsOf(model, { height, width }) {
  // Before any layer every pixel knows itself.
  let map = Array.from({ length: height }, (_, row) =>
    Array.from({ length: width }, (_, column) => 1n << BigInt(row * width + column)),
  );
  return layersOf(model).map(({ apply }) => (map = apply(map)).flat());
}

/**
 * For every pixel q: after how many layers `pixel` sees q, or, with `seenBy`, is seen by q;
 * 0 where never.
 */
function firstSeen(maps, pixel, seenBy) {
  const sees = (map, p, q) => (map[p] >> BigInt(q)) & 1n;
  return maps[0].map((_, q) => {
    const found = maps.findIndex((map) => (seenBy ? sees(map, q, pixel) : sees(map, pixel, q)));
    return found + 1;
  });
}
