// What a pixel depends on: a forward pass with sets in place of numbers, unions in place of sums.
// A map holds a set for every pixel of a board, in raster order; a set is a BigInt whose bit q says
// whether pixel q of the image is in it. A layer takes a map to the next one, by the rules of
// nvp/autoregressive and nvp/flows, for images of one channel.

/** The map before any layer: every pixel knows itself. */
function identityMap(board) {
  return Array.from({ length: board.height * board.width }, (_, p) => 1n << BigInt(p));
}

/** The set at (row, column) of a map; empty outside the board, as zero padding is. */
function setAt(map, board, row, column) {
  const inside = row >= 0 && row < board.height && column >= 0 && column < board.width;
  return inside ? map[row * board.width + column] : 0n;
}

/** A new map, each of whose sets is made by rule(row, column); earlier ones are in `made`. */
function eachPixel(board, rule) {
  const made = [];
  for (let row = 0; row < board.height; row++)
    for (let column = 0; column < board.width; column++) made.push(rule(row, column, made));
  return made;
}

/** A masked convolution: `up` rows above and `side` columns on either side; the centre for B. */
function maskedConvolution(mask, up, side) {
  return (map, board) =>
    eachPixel(board, (row, column) => {
      let seen = mask === "B" ? setAt(map, board, row, column) : 0n;
      for (let c = -side; c <= side; c++) {
        for (let r = 1; r <= up; r++) seen |= setAt(map, board, row - r, column + c);
        if (c < 0) seen |= setAt(map, board, row, column + c);
      }
      return seen;
    });
}

/** Input to state: the row's left neighbours and itself; state to state: the row above. */
function rowLSTM(side) {
  const inputToState = maskedConvolution("B", 0, side);
  return (map, board) => {
    const input = inputToState(map, board);
    return eachPixel(board, (row, column, states) => {
      let state = input[row * board.width + column];
      for (let c = -side; c <= side; c++) state |= setAt(states, board, row - 1, column + c);
      return state;
    });
  };
}

/** Two scans, from the left and from the right; the second one's map is shifted down by a row. */
function diagonalBiLSTM(map, board) {
  const mirrored = (column) => board.width - 1 - column;
  /** A scan from the left of the columns that `from` names. */
  const scan = (from) =>
    eachPixel(
      board,
      (row, column, states) =>
        setAt(map, board, row, from(column)) |
        setAt(states, board, row, column - 1) |
        setAt(states, board, row - 1, column),
    );
  const [left, right] = [scan((column) => column), scan(mirrored)];
  return eachPixel(
    board,
    (row, column) =>
      setAt(left, board, row, column) | setAt(right, board, row - 1, mirrored(column)),
  );
}

/** Position in the 2 x 2 block -> channel after a squeeze: 0 top left, 1 top right, 2, 3 below. */
const SQUEEZE = { position: [0, 1, 2, 3], diagonal: [0, 2, 3, 1] };

/** Where a squeeze puts a pixel of an image of one channel: its block and its channel. */
function squeezed(row, column, order) {
  const position = 2 * (row % 2) + (column % 2);
  return { row: row >> 1, column: column >> 1, channel: SQUEEZE[order][position] };
}

/** b of the checkerboard that keeps pixels of this parity: row + column odd (1) or even (0). */
function checkerboard(parity) {
  return (row, column) => (row + column) % 2 === parity;
}

/** b of the channel-wise mask that keeps the first (0) or the second (1) half of the channels. */
function channelwise(half, order) {
  return (row, column) => squeezed(row, column, order).channel >> 1 === half;
}

/**
 * A coupling: kept pixels (b = 1) pass; the others also read the kept ones within `reach`, which
 * counts pixels, or blocks of 2 x 2 where the networks work on a squeezed image.
 */
function coupling(kept, reach, block) {
  const place = (i) => Math.floor(i / block);
  return (map, board) =>
    eachPixel(board, (row, column) => {
      let seen = setAt(map, board, row, column);
      if (kept(row, column)) return seen;
      const first = (i) => block * Math.max(place(i) - reach, 0);
      const end = (i, length) => Math.min(block * (place(i) + reach + 1), length);
      for (let r = first(row); r < end(row, board.height); r++)
        for (let c = first(column); c < end(column, board.width); c++)
          if (kept(r, c)) seen |= setAt(map, board, r, c);
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
    const kept = checkerboard(1 - (i % 2));
    return { name: `checkerboard ${i + 1}`, kept, apply: coupling(kept, reach, 1) };
  };
  const channels = (i) => {
    const kept = channelwise(i % 2, order);
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

/** The maps after each layer, first to last. */
function mapsOf(model, board) {
  const maps = [];
  let map = identityMap(board);
  for (const layer of layersOf(model)) maps.push((map = layer.apply(map, board)));
  return maps;
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
