// Masks and squeeze: choose a pixel, and see what it sees, or what sees it, layer by layer.

const BOARD = { height: 14, width: 14 };
const CELL = 26; // in units of the drawing; at 390 px a cell is still 24 px wide
const MOST_LAYERS = 8;
const CHANNEL_NAMES = { position: ["top left", "top right", "bottom left", "bottom right"] };
CHANNEL_NAMES.diagonal = [0, 3, 1, 2].map((position) => CHANNEL_NAMES.position[position]);

const ABOUT = {
  convolutions:
    "The first mask once, then mask B. Each layer reaches further left and up, but to the right " +
    "only together with a row upwards: a wedge at the upper right stays a blind spot.",
  row:
    "The state of a row is made from the row above: a triangle that widens upwards. " +
    "The masked convolutions of the input add what stands to the left.",
  diagonal:
    "Two scans, from both upper corners, reach nearly every earlier pixel in one layer. The " +
    "second scan is shifted down by a row; otherwise it would look to the right.",
  checkerboard:
    "Squares with b = 1 (marked) pass; the others are changed, by networks that see the marked " +
    "ones nearby. The next coupling swaps the roles. There is no order, and no pixel is later.",
  channels:
    "The squeeze makes four channels of each 2 × 2 block. The mask keeps two of them whole " +
    "(marked), and the networks work on blocks.",
  scale:
    "One scale of Real NVP: three couplings under the checkerboard, a squeeze, three under the " +
    "channel-wise mask.",
};
const KINDS = {
  convolutions: "Masked convolutions",
  row: "Row LSTM",
  diagonal: "Diagonal BiLSTM",
  checkerboard: "Checkerboard",
  channels: "Channel-wise",
  scale: "A scale of Real NVP",
};
const IS_COUPLING = { checkerboard: true, channels: true, scale: true };

/** One cell at (x, y): its square, its figure and, for b = 1, a mark in the corner. */
function makeCell(x, y) {
  const mark = make("path", { class: "kept", d: `M${x + 3} ${y + 8}v-5h5` });
  const middle = { x: x + CELL / 2, y: y + CELL / 2 + 0.5 };
  const square = make("rect", { x, y, width: CELL, height: CELL });
  return make("g", { class: "cell" }, square, mark, make("text", middle));
}

/** Paint a cell: kind "seen" (at some step), "unseen", "leak" or "later"; kept marks b = 1. */
function paintCell(cell, { kind, step, kept }) {
  cell.dataset.kind = kind;
  cell.dataset.step = step;
  cell.style.setProperty("--step", `var(--step-${step})`); // of a cell that is seen
  cell.lastChild.textContent = { seen: step, unseen: "–", leak: "×", later: "" }[kind];
  cell.children[1].style.display = kept ? "" : "none";
}

function buildMasks(root) {
  const state = {
    kind: "convolutions",
    count: 3,
    mask: "A",
    first: 7,
    kernel: 3,
    blocks: 0,
    order: "position",
    seenBy: false,
    pixel: 8 * BOARD.width + 6,
  };
  const change = (name, read) => (value) => {
    state[name] = read ? read(value) : value;
    update();
  };

  // The board
  const size = BOARD.width * CELL;
  const cells = Array.from({ length: BOARD.height * BOARD.width }, (_, p) =>
    makeCell((p % BOARD.width) * CELL, Math.floor(p / BOARD.width) * CELL),
  );
  const chosen = make("rect", { class: "chosen", width: CELL, height: CELL });
  const viewBox = `-2 -2 ${size + 4} ${size + 4}`;
  const svg = make("svg", { viewBox, tabindex: 0, role: "application" }, ...cells, chosen);
  svg.setAttribute("aria-roledescription", "board of pixels");
  svg.setAttribute("aria-label", "Choose a pixel with the arrow keys");
  const place = (p) => [Math.floor(p / BOARD.width), p % BOARD.width];
  /** Choose the pixel at a place, or the nearest one to a place outside. */
  function choose(row, column) {
    const along = clamp(column, 0, BOARD.width - 1);
    state.pixel = clamp(row, 0, BOARD.height - 1) * BOARD.width + along;
    update();
  }
  const toCell = (share) => Math.floor((share * (size + 4) - 2) / CELL);
  onPress(svg, (right, down) => choose(toCell(down), toCell(right)));
  onArrow(svg, (down, right) => {
    const [row, column] = place(state.pixel);
    choose(row + down, column + right);
  });

  // The same pixels after a squeeze: four boards, one a channel
  const half = BOARD.width / 2;
  const pitch = half * CELL + 40;
  const channelNames = [0, 1, 2, 3].map((channel) =>
    make("text", { x: (channel % 2) * pitch, y: (channel >> 1) * pitch - 8, "font-size": 18 }),
  );
  const channelCells = cells.map(() => makeCell(0, 0));
  const channelChosen = make("rect", { class: "chosen", width: CELL, height: CELL });
  const squeezedSvg = make(
    "svg",
    { viewBox: `-2 -26 ${pitch + half * CELL + 4} ${pitch + half * CELL + 30}`, role: "img" },
    ...channelNames,
    ...channelCells,
    channelChosen,
  );
  squeezedSvg.setAttribute("aria-label", "The same pixels after the squeeze: four channels");
  const after = make("p", {}, "After the squeeze:");
  const squeezedPart = make("div", { class: "squeezed" }, after, squeezedSvg);

  // Controls
  const layers = slider(
    "Layers",
    "count",
    { min: 1, max: MOST_LAYERS, value: state.count },
    change("count"),
  );
  const options = {
    mask: radios("First mask", "mask", { A: "A", B: "B (wrong)" }, state.mask, change("mask")),
    first: radios("First kernel", "first", { 3: "3", 5: "5", 7: "7" }, state.first, change("first", Number)),
    kernel: radios("Kernel", "kernel", { 3: "3", 5: "5" }, state.kernel, change("kernel", Number)),
    blocks: slider(
      "Residual blocks in s and t",
      "blocks",
      { max: 2, value: state.blocks },
      change("blocks"),
    ),
    order: radios(
      "First half of the channels",
      "order",
      { position: "top of each block", diagonal: "its diagonal" },
      state.order,
      change("order"),
    ),
  };
  const kind = radios("Model", "kind", KINDS, state.kind, (value) => {
    state.kind = value;
    const most = value === "scale" ? 6 : MOST_LAYERS;
    state.count = value === "scale" ? most : Math.min(state.count, most);
    layers.set(state.count, most);
    update();
  });
  const ways = { sees: "what the pixel sees", seenBy: "what sees the pixel" };
  const isSeenBy = (value) => value === "seenBy";
  const direction = radios("Show", "seenBy", ways, "sees", change("seenBy", isSeenBy));
  const about = make("p", { class: "about" });
  const status = make("p", { class: "status", role: "status" });
  const key = make("ul", { class: "key" });
  root.append(
    make("div", { class: "controls" }, kind),
    make("div", { class: "controls" }, layers, direction, ...Object.values(options)),
    about,
    make(
      "div",
      { class: "panels" },
      make("div", { class: "board" }, svg, status),
      make("div", { class: "beside" }, key, squeezedPart),
    ),
  );

  /** What each pixel is to the chosen one. */
  function judge(steps) {
    const { pixel, seenBy, kind } = state;
    return steps.map((step, q) => {
      const inOrder = IS_COUPLING[kind] || (seenBy ? q > pixel : q < pixel);
      if (step) return { kind: inOrder ? "seen" : "leak", step: inOrder ? step : 0 };
      return { kind: inOrder ? "unseen" : "later", step: 0 };
    });
  }

  function describe(judged) {
    const { pixel, seenBy, kind } = state;
    const count = (wanted) => judged.filter((cell) => cell.kind === wanted).length;
    const seen = count("seen");
    const [row, column] = place(pixel);
    const where = `Row ${row + 1}, column ${column + 1}`;
    const all = seen + count("unseen");
    if (IS_COUPLING[kind])
      return seenBy
        ? `${where}: x here reaches ${seen} of the ${all} outputs.`
        : `${where}: the output here depends on ${seen} of the ${all} pixels of x.`;
    const what = seenBy
      ? `is seen by ${seen} of the ${all} later`
      : `sees ${seen} of the ${all} earlier`;
    const leak = count("leak") ? " It also sees itself: nothing is left to predict." : "";
    return `${where}: ${what} pixels.${leak}`;
  }

  function drawKey(model, judged) {
    const entries = model.map(({ name }, i) => [{ kind: "seen", step: i + 1 }, name]);
    const has = (wanted) => judged.some((cell) => cell.kind === wanted);
    const isCoupling = IS_COUPLING[state.kind];
    if (has("unseen"))
      entries.push([
        { kind: "unseen" },
        isCoupling ? "out of reach" : state.seenBy ? "later, does not see it" : "earlier, not seen",
      ]);
    if (has("later")) entries.push([{ kind: "later" }, state.seenBy ? "earlier" : "later"]);
    if (has("leak")) entries.push([{ kind: "leak" }, "a leak"]);
    if (isCoupling) entries.push([{ kind: "later", kept: true }, "b = 1 in the last coupling"]);
    key.replaceChildren();
    for (const [look, name] of entries) {
      const cell = makeCell(0, 0);
      const viewBox = `-1 -1 ${CELL + 2} ${CELL + 2}`;
      const sample = make("svg", { viewBox, "aria-hidden": "true" }, cell);
      paintCell(cell, look);
      key.append(make("li", {}, sample, name));
    }
  }

  function update() {
    const model = layersOf(state);
    const judged = judge(firstSeen(mapsOf(state, BOARD), state.pixel, state.seenBy));
    const last = model.at(-1);
    judged.forEach((look, p) => {
      look.kept = last.kept?.(...place(p));
      paintCell(cells[p], look);
    });
    const [row, column] = place(state.pixel);
    setAll(chosen, { x: column * CELL, y: row * CELL });
    squeezedPart.hidden = !last.squeezed;
    if (last.squeezed)
      judged.forEach((look, p) => {
        const at = squeezed(...place(p), state.order);
        const x = (at.channel % 2) * pitch + at.column * CELL;
        const y = (at.channel >> 1) * pitch + at.row * CELL;
        channelCells[p].setAttribute("transform", `translate(${x} ${y})`);
        paintCell(channelCells[p], look);
        if (p === state.pixel) setAll(channelChosen, { x, y });
      });
    channelNames.forEach((node, channel) => {
      node.textContent = `${channel + 1}: ${CHANNEL_NAMES[state.order][channel]}`;
    });
    const isCoupling = IS_COUPLING[state.kind];
    const shown = {
      mask: !isCoupling,
      first: !isCoupling,
      kernel: state.kind === "convolutions" || state.kind === "row",
      blocks: isCoupling,
      order: state.kind === "channels" || state.kind === "scale",
    };
    for (const [name, node] of Object.entries(options)) node.hidden = !shown[name];
    about.textContent = ABOUT[state.kind];
    drawKey(model, judged);
    say(status, describe(judged));
    status.classList.toggle("alarm", judged.some((cell) => cell.kind === "leak"));
  }

  update();
}

mount(PLACE, STYLE, buildMasks);
