// A Real NVP of the plane: drag points and the Gaussian, and step through the coupling layers.
// DATA has, for each data set, the weights of a flow and some points of the set.

const LATTICE = 64; // places in a row at which the density is computed
const COARSE = 32; // the same, while the couplings play
const GRID_LINES = 11;
const GRID_REACH = 2.5; // of the Gaussian's spread
const CIRCLE = 0.21; // radius of the circle around the chosen point

/** Points on `count` horizontal and as many vertical lines through [-reach, reach]^2. */
function gridLines(count, reach, perLine) {
  const at = (i, n) => -reach + (2 * reach * i) / (n - 1);
  const lines = [];
  for (let i = 0; i < count; i++) {
    const along = Array.from({ length: perLine }, (_, j) => at(j, perLine));
    lines.push(along.flatMap((t) => [t, at(i, count)]), along.flatMap((t) => [at(i, count), t]));
  }
  return { coordinates: Float64Array.from(lines.flat()), perLine };
}

/** Some of the points, far from each other: each next one is the furthest from those before. */
function spreadOut(points, count) {
  const chosen = [points[0]];
  const distance = (p) => Math.min(...chosen.map((q) => Math.hypot(p[0] - q[0], p[1] - q[1])));
  while (chosen.length < count)
    chosen.push(points.reduce((best, p) => (distance(p) > distance(best) ? p : best)));
  return chosen;
}

function buildPlane(root) {
  const sets = Object.keys(DATA);
  const state = { grid: "z", dots: "data", spread: 1, chosen: 0, level: Infinity };
  let playing = null;

  const redraw = soon(draw);
  const change = (name) => (value) => {
    state[name] = value;
    redraw();
  };

  function chooseSet(set) {
    state.set = set;
    state.flow = readFlow(DATA[set].weights);
    state.level = Math.min(state.level, state.flow.length);
    state.points = spreadOut(DATA[set].points.slice(0, 60), NUM_POINTS);
    state.mean = [0, 0];
    redraw();
  }
  chooseSet(sets[0]);

  const at = (point, from, to) => [...move(state.flow, point, from, to).points];
  const panelEvents = (level) => ({
    choose: change("chosen"),
    drag(which, place) {
      state.chosen = which;
      if (which === CENTRE) state.mean = at(place, level(), state.flow.length);
      else state.points[which] = at(place, level(), 0);
      redraw();
    },
  });
  const left = makePanel("x", panelEvents(() => 0));
  const right = makePanel("z", panelEvents(() => state.level));

  // Controls
  const levels = slider(
    "Couplings applied",
    "level",
    { min: 0, max: state.flow.length, step: 0.05, value: state.level, shown: (v) => v.toFixed(2) },
    (value) => {
      stop();
      change("level")(value);
    },
  );
  const play = button("Play", () => (playing ? stop() : start()));
  function stop() {
    playing = null;
    play.textContent = "Play";
    redraw();
  }
  function start() {
    const me = (playing = {}); // another press of the button makes another one
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const end = state.flow.length;
    let before = null;
    const later = () => (still ? setTimeout(step, 1200) : requestAnimationFrame(step));
    const step = (now) => {
      if (playing !== me) return;
      const pace = Math.min((now - (before ?? now)) / 900, 0.2);
      before = now;
      // Whole couplings, one at a time, for those who ask for less motion.
      const next = still ? Math.floor(state.level) + 1 : state.level + pace;
      state.level = Math.min(next, end);
      levels.set(state.level, end);
      draw();
      if (state.level < end) later();
      else stop();
    };
    if (state.level >= end) state.level = 0;
    play.textContent = "Stop";
    redraw();
    later();
  }
  const spreads = { min: 0.2, max: 1.5, step: 0.05, value: 1, shown: number };
  const spread = slider("Spread of the Gaussian", "spread", spreads, change("spread"));
  const named = Object.fromEntries(sets.map((set) => [set, set]));
  const show = (value) => {
    stop();
    chooseSet(value);
    levels.set(state.level, state.flow.length);
  };
  const set = radios("Data", "set", named, state.set, show);
  const grids = { z: "straight in z", x: "straight in x", none: "none" };
  const grid = radios("Grid", "grid", grids, state.grid, change("grid"));
  const dotted = { data: "data", samples: "samples", none: "none" };
  const dots = radios("Dots", "dots", dotted, state.dots, change("dots"));
  const reset = button("Reset", () => {
    state.spread = 1;
    spread.set(1);
    state.level = Infinity;
    show(state.set);
  });
  const status = make("p", { class: "status", role: "status" });
  root.append(
    make("div", { class: "controls" }, set, spread, reset),
    make("div", { class: "controls" }, levels, play),
    make("div", { class: "controls" }, grid, dots),
    make("div", { class: "panels" }, left.node, right.node),
    status,
  );

  // What stands still while a point is dragged is not computed again.
  const lines = gridLines(GRID_LINES, 1, 101);
  const noise = Float64Array.from({ length: 600 }, makeNormal());
  const around = (unit, reach, mean) => unit.map((u, i) => mean[i % 2] + reach * u);
  const source = {
    grid: () =>
      state.grid === "z"
        ? [around(lines.coordinates, GRID_REACH * state.spread, state.mean), state.flow.length]
        : [around(lines.coordinates, RANGE, [0, 0]), 0],
    dots: () =>
      state.dots === "samples"
        ? [around(noise, state.spread, state.mean), state.flow.length]
        : [Float64Array.from(DATA[state.set].points.flat()), 0],
  };
  const pathAt = (level, what) => {
    const [points, from] = source[what]();
    const moved = move(state.flow, points, from, level).points;
    return what === "grid" ? linePath(moved, lines.perLine) : dotPath(moved);
  };

  function drawPanel(panel, title, level, size) {
    panel.title.textContent = title;
    panel.svg.setAttribute("aria-label", title);
    const gaussian = `${state.set} ${state.mean} ${state.spread}`;
    const { theme } = root.getRootNode().host.dataset;
    panel.paintDensity(`${gaussian} ${level} ${size} ${theme}`, state, level, size);
    for (const what of ["grid", "dots"]) {
      const path = () => (state[what] === "none" ? "" : pathAt(level, what));
      panel.paths[what](`${gaussian} ${level} ${state[what]}`, path);
    }
    const centre = at(state.mean, state.flow.length, level);
    const places = [centre, ...state.points.map((point) => at(point, 0, level))];
    panel.placeHandles(places, state.chosen);
    const circled = state.chosen !== CENTRE;
    panel.circle.setAttribute("d", circled ? circlePath(state.points[state.chosen], level) : "");
  }

  /** A small circle around a point of x, at a level: nearly an ellipse, of the area times |det|. */
  function circlePath(point, level) {
    const angles = Array.from({ length: 97 }, (_, i) => (2 * Math.PI * i) / 96);
    const places = angles.flatMap((a) => [
      point[0] + CIRCLE * Math.cos(a),
      point[1] + CIRCLE * Math.sin(a),
    ]);
    return linePath(move(state.flow, places, 0, level).points, angles.length);
  }

  function describe() {
    const end = state.flow.length;
    if (state.chosen === CENTRE) {
      const inX = pair(at(state.mean, end, 0));
      return `The Gaussian: mean ${pair(state.mean)} in z, which g maps to ${inX} in x.`;
    }
    const moved = move(state.flow, state.points[state.chosen], 0, end);
    const log = logDensity(moved, state.mean, state.spread)[0];
    const name = `Point ${state.chosen + 1}`;
    const places = `x = ${pair(state.points[state.chosen])}, z = ${pair(moved.points)}`;
    const change = `log |det ∂f/∂x| = ${number(moved.logDet[0])}`;
    return `${name}: ${places}, ${change}, log p(x) = ${number(log)} nats.`;
  }

  function titleOf(level) {
    const end = state.flow.length;
    if (level === end) return `z = f(x), after all ${end} couplings`;
    if (level === 0) return "x, before the first coupling";
    const next = Math.ceil(level) - 1;
    return `Coupling ${next + 1} of ${end} moves ${next % 2 ? "horizontally" : "vertically"}`;
  }

  function draw() {
    drawPanel(left, "x, the data", 0, LATTICE);
    drawPanel(right, titleOf(state.level), state.level, playing ? COARSE : LATTICE);
    say(status, describe());
  }

  draw();
  return draw;
}

mount(PLACE, STYLE, buildPlane);
