// A Real NVP of images: a walk on the manifold of four of them (eq 19, figure 6), at any
// temperature, with fine latents drawn anew (appendix D). DATA has the weights, and images of
// 8 bits a pixel.

const STEPS = 8; // of each angle on the map, as in figure 6
const GAP = 2; // pixels between the pictures of the map
const REST = 150; // ms without a change, after which the map is drawn again

/** The colour of a grey value, 0 to 1. One that lies beyond is clamped where it is painted. */
function greyOf(value) {
  const grey = Math.floor(256 * value);
  return [grey, grey, grey, 255];
}

/**
 * The map: pictures at 8 x 8 pairs of angles, phi downwards, psi to the right, and a frame around
 * the pair that is shown. `place` gets the angles of the picture that is clicked, in degrees.
 */
function makeMap({ height, width }, place) {
  const [high, wide] = [height + GAP, width + GAP];
  const canvas = make("canvas", { height: STEPS * high, width: STEPS * wide, role: "img" });
  canvas.setAttribute("aria-label", "Pictures at eight times eight pairs of angles");
  const viewBox = `0 0 ${STEPS * wide} ${STEPS * high}`;
  const svg = make("svg", { viewBox, "aria-hidden": "true" });
  // The four images stand where both angles are 0 or 90 degrees.
  [0, 1, 2, 3].forEach((i) => {
    const [x, y] = [(i % 2) * 2 * wide, (i >> 1) * 2 * high];
    const number = make("text", { x: x + 6, y: y + 7 }, String(i + 1));
    svg.append(make("rect", { class: "number", x, y, width: 12, height: 12 }), number);
  });
  // The map has no edge: a frame that leaves on one side comes in on the other.
  const frame = { class: "frame", width: wide, height: high };
  const frames = [0, 1, 2, 3].map(() => make("rect", frame));
  svg.append(...frames);
  const node = make("div", { class: "map square" }, canvas, svg);
  node.style.aspectRatio = wide / high;

  const angle = (share) => clamp(Math.floor(share * STEPS), 0, STEPS - 1) * (360 / STEPS);
  onPress(node, (right, down) => place(angle(down), angle(right)));

  function mark(phi, psi) {
    const at = (angle) => ((angle % 360) / 360) * STEPS;
    frames.forEach((node, i) => {
      const [x, y] = [(at(psi) - STEPS * (i % 2)) * wide, (at(phi) - STEPS * (i >> 1)) * high];
      setAll(node, { x, y });
    });
  }
  const paintTile = (pixels, row, column) =>
    paint(canvas, pixels, greyOf, { width }, column * wide + GAP / 2, row * high + GAP / 2);
  return { node, mark, paintTile };
}

function buildImages(root) {
  const flow = readRealNVP(DATA.weights);
  const { height, width } = flow.shape;
  const size = height * width;
  const bytes = bytesOf(DATA.images);
  const normal = makeNormal();
  const noise = () => Float64Array.from({ length: size }, normal);
  const state = { phi: 0, psi: 45, temperature: 1, kept: 100, others: "drawn", noise: noise() };

  // In which order latents are given up: fine scales first, within a scale in any order.
  const scaleOf = countsByScale(flow).flatMap((count, scale) => Array(count).fill(scale));
  const chance = noise();
  const finestFirst = [...scaleOf.keys()].sort(
    (i, j) => scaleOf[i] - scaleOf[j] || chance[i] - chance[j],
  );
  const givenUp = () => finestFirst.slice(0, Math.round((1 - state.kept / 100) * size));

  function chooseImages(first) {
    state.first = first;
    state.latents = [0, 1, 2, 3].map((i) => {
      const pixels = bytes.subarray((first + i) * size, (first + i + 1) * size);
      // The middle of each level stands for the noise of dequantisation.
      const logits = logitsOf(flow, Float64Array.from(pixels, (value) => (value + 0.5) / 256));
      return encode(flow, logits).z;
    });
  }
  chooseImages(0);

  /** The latents that are decoded at two angles in degrees. */
  function latentsAt(phi, psi) {
    const z = onManifold(state.latents, (phi * Math.PI) / 180, (psi * Math.PI) / 180);
    for (const i of givenUp()) z[i] = state.others === "drawn" ? state.noise[i] : 0;
    return z.map((value) => state.temperature * value);
  }

  // Controls
  const redraw = soon(draw);
  const turn = (changes) => {
    Object.assign(state, changes);
    redraw();
  };
  const change = (changes) => {
    turn(changes);
    redrawMap();
  };
  const field = (label, name, range, changed = change) =>
    slider(label, name, { ...range, value: state[name] }, (value) => changed({ [name]: value }));
  // Steps that a finger can hit: images stand at 0 and 90 degrees.
  const degrees = { max: 360, step: 5, shown: (value) => `${value}°` };
  const factor = { max: 1.5, step: 0.05, shown: (value) => value.toFixed(2) };
  const percent = { max: 100, step: 5, shown: (value) => `${value}%` };
  const phi = field("Angle φ", "phi", degrees, turn);
  const psi = field("Angle φ′", "psi", degrees, turn);
  const temperature = field("Temperature", "temperature", factor);
  const kept = field("Latents kept", "kept", percent);
  const fates = { drawn: "drawn anew", zero: "set to 0" };
  const others = radios("Those not kept", "others", fates, "drawn", (value) =>
    change({ others: value }),
  );
  const again = button("Draw again", () => change({ noise: noise() }));
  const next = button("Four other images", () => {
    const following = state.first + 4;
    chooseImages((following + 4) * size <= bytes.length ? following : 0);
    change({});
  });
  next.disabled = bytes.length < 8 * size;

  const map = makeMap(flow.shape, (down, right) => {
    phi.set(down);
    psi.set(right);
    turn({ phi: down, psi: right });
  });
  const picture = make("canvas", { height, width, role: "img" });
  const square = make("div", { class: "picture square" }, picture);
  square.style.aspectRatio = width / height;
  const status = make("p", { class: "status", role: "status" });
  const time = make("p", { class: "time" });
  root.append(
    make("div", { class: "controls" }, phi, psi),
    make("div", { class: "controls" }, temperature, kept),
    make("div", { class: "controls" }, others, again, next),
    make(
      "div",
      { class: "panels" },
      panel("x = g(z)", square, status),
      panel("The manifold: φ downwards, φ′ to the right", map.node),
    ),
    time,
  );

  /** What becomes of the latents, in words. */
  function describeLatents() {
    const gone = givenUp();
    const shares = countsByScale(flow).map((count, scale) => {
      const share = gone.filter((i) => scaleOf[i] === scale).length / count;
      const part = share === 1 ? "all" : `${Math.round(100 * share)}%`;
      return share ? `${part} of z${"⁰¹²³⁴⁵⁶⁷⁸⁹"[scale + 1]}` : "";
    });
    const named = shares.filter(Boolean).join(", ");
    return named ? `Latents ${fates[state.others]}: ${named}` : "All latents kept";
  }

  function draw() {
    const begin = performance.now();
    const z = latentsAt(state.phi, state.psi);
    const { logits, logDet } = decode(flow, z);
    paint(picture, pixelsOf(flow, logits), greyOf);
    const took = performance.now() - begin;
    map.mark(state.phi, state.psi);
    again.disabled = state.kept === 100 || state.others !== "drawn";
    const square = z.reduce((sum, value) => sum + value ** 2, 0) / size;
    const bits = bitsPerDim(flow, { z, logits, logDet: -logDet });
    const place = `φ = ${state.phi}°, φ′ = ${state.psi}°`;
    picture.setAttribute("aria-label", `The decoded picture at ${place}`);
    const text =
      `${place}. ${describeLatents()}. Mean square of z: ${square.toFixed(2)}. ` +
      `Bits/dim of x: ${bits.toFixed(2)}.`;
    say(status, text);
    time.textContent = `${Math.round(took)} ms from z to the picture.`;
  }

  // The map: a picture at a time, so that no control is kept waiting; only while it is seen.
  let tile = 0;
  let drawing = null;
  let seen = false;
  function drawTile() {
    const [row, column] = [Math.floor(tile / STEPS), tile % STEPS];
    const z = latentsAt((row * 360) / STEPS, (column * 360) / STEPS);
    map.paintTile(pixelsOf(flow, decode(flow, z).logits), row, column);
    tile++;
  }
  function drawTiles() {
    if (tile === STEPS * STEPS || !seen) return;
    drawTile();
    drawing = setTimeout(drawTiles);
  }
  function redrawMap() {
    tile = 0;
    clearTimeout(drawing);
    drawing = setTimeout(drawTiles, REST);
  }
  new IntersectionObserver((entries) => {
    clearTimeout(drawing);
    seen = entries[entries.length - 1].isIntersecting;
    drawing = setTimeout(drawTiles, REST);
  }).observe(map.node);
  root.getRootNode().host.addEventListener("print", () => {
    while (tile < STEPS * STEPS) drawTile();
  });

  draw();
}

mount(PLACE, STYLE, buildImages);
