// A Pixel RNN completes what the reader scribbles: the upper half of a digit is given, the lower
// half is drawn pixel by pixel, several times. DATA has the weights, and digits to begin with.

const COUNT = 6; // completions
const NIB = 1.15; // radius of the pen, in pixels
const DEAR = 3; // nats, from which on a pixel has the full colour
const REST = 200; // ms without a stroke, after which the completions are drawn
const WAITING = 150; // grey level of a pixel that is not drawn yet

/** Paint 0 and 1 black and white; pixels from `count` on are waiting. */
function paintLevels(canvas, image, count) {
  paint(canvas, image, (level, p) => {
    const grey = p < count ? 255 * level : WAITING;
    return [grey, grey, grey, 255];
  });
}

/** Paint costs in nats, as much of the accent as a pixel cost. */
function paintCosts(canvas, costs) {
  const accent = colourOf(canvas, "--accent");
  paint(canvas, costs, (nats) => [...accent, 255 * Math.min(nats / DEAR, 1)]);
}

/** Call `visit` with the pixels under the pen on its way from one point to another. */
function eachInked([x0, y0], [x1, y1], visit) {
  const steps = Math.ceil(2 * Math.hypot(x1 - x0, y1 - y0)) || 1;
  for (let i = 0; i <= steps; i++) {
    const [x, y] = [x0 + ((x1 - x0) * i) / steps, y0 + ((y1 - y0) * i) / steps];
    for (let row = Math.floor(y - NIB); row <= y + NIB; row++)
      for (let column = Math.floor(x - NIB); column <= x + NIB; column++)
        if (Math.hypot(column + 0.5 - x, row + 0.5 - y) < NIB) visit(row, column);
  }
}

function buildCompletion(root) {
  const network = readPixelRNN(DATA.weights);
  const { height, width } = network;
  const [size, half] = [height * width, Math.floor(height / 2)];
  const bytes = bytesOf(DATA.images);
  const numImages = Math.floor((8 * bytes.length) / size);
  const uniform = makeUniform();
  const state = { given: new Uint8Array(size), digit: 22 % numImages, pen: 1, chosen: 0 };
  [state.row, state.column] = [half - 1, Math.floor(width / 2)];
  let drawings = [];
  let timer = null;
  let took = 0;

  // Controls
  const pens = radios("Pen", "pen", { draw: "draw", erase: "erase" }, "draw", (value) => {
    state.pen = Number(value === "draw");
  });
  const clear = button("Clear", () => give(() => 0));
  const digit = button("A test digit", () => {
    state.digit = (state.digit + 1) % numImages;
    giveDigit();
  });
  const again = button("Draw again", () => complete());

  // The image and its costs, with one cursor in both
  const line = `M0 ${half}H${width}`;
  const [board, map] = ["The image", "Nats of each pixel"].map((title) => {
    const canvas = make("canvas", { height, width, "aria-hidden": "true" });
    const cursor = make("rect", { class: "cursor", width: 1, height: 1 });
    const viewBox = `0 0 ${width} ${height}`;
    const halfway = make("path", { class: "half", d: line });
    const svg = make("svg", { viewBox, "aria-hidden": "true" }, halfway, cursor);
    const square = make("div", { class: "square", tabindex: 0, role: "application" }, canvas, svg);
    square.style.aspectRatio = width / height;
    const keys = "arrow keys move the cursor, space draws or erases above the line";
    square.setAttribute("aria-label", `${title}; ${keys}`);
    onArrow(square, (down, right) => point(state.row + down, state.column + right));
    square.addEventListener("keydown", (event) => {
      if (event.key !== " " || hasModifier(event)) return;
      event.preventDefault();
      if (state.row >= half) return;
      state.given[state.row * width + state.column] = state.pen;
      complete(REST);
    });
    const at = (event) => {
      const [right, down] = placeIn(canvas, event);
      return [right * width, down * height];
    };
    const pointAt = (event) => point(...at(event).map(Math.floor).reverse());
    square.addEventListener("pointerdown", pointAt);
    square.addEventListener("pointermove", pointAt);
    return { canvas, cursor, square, node: panel(title, square), at };
  });
  const paper = make("div", { class: "paper" });
  paper.style.bottom = `${100 * (1 - half / height)}%`;
  board.square.append(paper);
  let last = null;
  paper.addEventListener("pointerdown", (event) => {
    if (event.button || !event.isPrimary) return;
    paper.setPointerCapture(event.pointerId);
    last = board.at(event);
    stroke(last);
  });
  paper.addEventListener("pointermove", (event) => {
    // A second finger is captured, too, without being asked for.
    if (event.isPrimary && paper.hasPointerCapture(event.pointerId)) stroke(board.at(event));
  });
  map.node.append(make("p", { class: "scale" }, "0", make("span"), `${DEAR} or more`));

  // The completions
  const cards = Array.from({ length: COUNT }, (_, i) => {
    const canvas = make("canvas", { height, width, "aria-hidden": "true" });
    const label = make("span");
    const choose = () => {
      state.chosen = i;
      show();
    };
    const card = make("button", { type: "button", class: "drawing", onclick: choose });
    card.append(canvas, label);
    return { canvas, label, card };
  });
  const status = make("p", { class: "status" });
  board.node.append(status);
  // What the page draws by itself is not read aloud; what its reader asks for is.
  root.addEventListener("focusin", () => status.setAttribute("role", "status"), { once: true });
  const time = make("p", { class: "time" });
  root.append(
    make("div", { class: "controls" }, pens, clear, digit, again),
    make("div", { class: "panels" }, board.node, map.node),
    make("div", { class: "drawings" }, ...cards.map(({ card }) => card)),
    time,
  );

  // What is given

  /** Let `levelOf` say the level of each pixel of the upper half. */
  function give(levelOf) {
    for (let p = 0; p < half * width; p++) state.given[p] = levelOf(p);
    complete();
  }
  function giveDigit() {
    const bit = (i) => (bytes[i >> 3] >> (7 - (i & 7))) & 1;
    give((p) => bit(state.digit * size + p));
  }
  function stroke(to) {
    eachInked(last, to, (row, column) => {
      const inside = row >= 0 && row < half && column >= 0 && column < width;
      if (inside) state.given[row * width + column] = state.pen;
    });
    last = to;
    complete(REST);
  }

  /** Move the cursor to a pixel of the image. */
  function point(row, column) {
    state.row = clamp(row, 0, height - 1);
    state.column = clamp(column, 0, width - 1);
    show();
  }

  // Drawing

  /** Begin all completions anew, after so many ms. */
  function complete(wait = 0) {
    clearTimeout(timer);
    drawings = [];
    show();
    timer = setTimeout(begin, wait);
  }
  function begin() {
    const start = performance.now();
    const upper = beginImage(network);
    while (upper.count < half * width) nextPixel(network, upper, () => state.given[upper.count]);
    drawings = cards.map(() => structuredClone(upper));
    took = performance.now() - start;
    drawRow();
  }
  function drawRow() {
    const start = performance.now();
    for (const drawing of drawings) {
      const end = drawing.count + width;
      while (drawing.count < end)
        nextPixel(network, drawing, (logit) => drawnLevel(logit, uniform()));
    }
    took += performance.now() - start;
    show();
    if (drawings[0].count < size) timer = setTimeout(drawRow);
  }

  const nats = (costs, from, to) => costs.subarray(from, to).reduce((sum, cost) => sum + cost, 0);
  const inWords = (value) => `${value.toFixed(1)} nats`;

  function show() {
    const waiting = { image: state.given, count: half * width, costs: new Float64Array(size) };
    const shown = drawings[state.chosen] ?? waiting;
    paintLevels(board.canvas, shown.image, shown.count);
    paintCosts(map.canvas, shown.costs);
    for (const { cursor } of [board, map]) setAll(cursor, { x: state.column, y: state.row });
    cards.forEach(({ canvas, label, card }, i) => {
      const drawing = drawings[i] ?? waiting;
      const done = drawing.count === size;
      paintLevels(canvas, drawing.image, drawing.count);
      label.textContent = done ? inWords(nats(drawing.costs, half * width, size)) : "…";
      card.setAttribute("aria-pressed", i === state.chosen);
      card.setAttribute("aria-label", `Completion ${i + 1}: ${label.textContent}`);
    });
    const done = shown.count === size;
    time.textContent = done ? `${Math.round(took)} ms for ${COUNT} completions.` : "Drawing.";
    const p = state.row * width + state.column;
    const level = shown.image[p];
    const place = `Row ${state.row + 1}, column ${state.column + 1}`;
    if (!done) {
      // Say the place of the cursor at once: drawing by keyboard goes on before the completions end.
      const what = state.row < half ? (level ? "ink" : "no ink") : "below the line";
      say(status, `${place}: ${what}. Drawing.`);
      return;
    }
    const chance = Math.exp(-shown.costs[p]);
    const ofInk = level ? chance : 1 - chance;
    say(
      status,
      `${place}: ${level ? "ink" : "no ink"}, ` +
        `${shown.costs[p].toFixed(2)} nats; ink had probability ${ofInk.toFixed(2)}. ` +
        `Upper half: ${inWords(nats(shown.costs, 0, half * width))}. ` +
        `Completion ${state.chosen + 1}: ${inWords(nats(shown.costs, half * width, size))}.`,
    );
  }

  giveDigit();
  return show;
}

mount(PLACE, STYLE, buildCompletion);
