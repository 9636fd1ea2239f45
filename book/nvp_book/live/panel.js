// One square of the plane at some level of a flow: its density, a grid, dots, and handles to drag.

const RANGE = 3.3; // both panels show [-RANGE, RANGE]^2
const UNIT = 100; // of the drawing, for 1 in the plane
const NUM_POINTS = 5;
const KEY_STEP = 0.05;
const CENTRE = -1; // the handle that is the mean of the Gaussian
const COLOURS = ["#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#d55e00"]; // under dark figures

/** A function that acts anew only when its key has changed. */
function remembering(act) {
  let last = null;
  let value = null;
  return (key, ...given) => {
    if (key !== last) [last, value] = [key, act(...given)];
    return value;
  };
}

const number = (value) => (Math.abs(value) < 0.005 ? 0 : value).toFixed(2).replace("-", "−");
const pair = (p) => `(${number(p[0])}, ${number(p[1])})`;
const toX = (value) => (value * UNIT).toFixed(2);
const toY = (value) => (-value * UNIT).toFixed(2);

/** The path through points, a line for every `perLine` of them; those far outside break it. */
function linePath(points, perLine) {
  let path = "";
  let drawing = false;
  for (let p = 0; p < points.length / 2; p++) {
    const [x, y] = [points[2 * p], points[2 * p + 1]];
    const inside = Math.abs(x) < 3 * RANGE && Math.abs(y) < 3 * RANGE;
    const joined = drawing && p % perLine;
    if (inside) path += `${joined ? "L" : "M"}${toX(x)} ${toY(y)}`;
    drawing = inside;
  }
  return path;
}

/** Points as strokes of no length, which round caps make visible. */
function dotPath(points) {
  let path = "";
  for (let p = 0; p < points.length / 2; p++)
    path += `M${toX(points[2 * p])} ${toY(points[2 * p + 1])}h0`;
  return path;
}

/** One of the two squares: density, grid, dots and handles at some level of the flow. */
function makePanel(name, events) {
  const canvas = make("canvas", { "aria-hidden": "true" });
  const grid = make("path", { class: "grid" });
  const dots = make("path", { class: "dots" });
  const circle = make("path", { class: "circle" });
  const makeHandle = (which) => {
    const handle = make("g", { class: "handle", tabindex: 0, role: "application" });
    handle.dataset.which = which;
    handle.setAttribute("aria-roledescription", "point that can be moved");
    handle.append(make("circle", { r: 40, class: "touch" }));
    if (which === CENTRE) handle.append(make("path", { d: "M0-20L20 0L0 20L-20 0Z" }));
    else handle.append(make("circle", { r: 17, fill: COLOURS[which] }));
    handle.append(make("text", {}, which === CENTRE ? "µ" : String(which + 1)));

    // Not every browser minds `touch-action` within a drawing; this keeps the page from scrolling.
    handle.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
    const under = (event) => {
      const [right, down] = placeIn(svg, event);
      return [(2 * right - 1) * RANGE, (1 - 2 * down) * RANGE];
    };
    let grip = null; // from the pointer to the middle of the handle
    handle.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      handle.setPointerCapture(event.pointerId);
      grip = under(event).map((value, i) => handle.at[i] - value);
      events.choose(which);
    });
    handle.addEventListener("pointermove", (event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const place = under(event).map((value, i) => clamp(value + grip[i], -RANGE, RANGE));
      events.drag(which, place);
    });
    handle.addEventListener("focus", () => events.choose(which));
    onArrow(handle, (down, right, { shiftKey }) => {
      const size = shiftKey ? 5 * KEY_STEP : KEY_STEP;
      // Only the coordinate that moves is kept in the panel: the other may lie outside.
      const moved = (value, by) => (by ? clamp(value + size * by, -RANGE, RANGE) : value);
      events.drag(which, [moved(handle.at[0], right), moved(handle.at[1], -down)]);
    });
    return handle;
  };
  const handles = [CENTRE, ...Array(NUM_POINTS).keys()].map(makeHandle);
  const side = 2 * RANGE * UNIT;
  const viewBox = `${-side / 2} ${-side / 2} ${side} ${side}`;
  const svg = make("svg", { viewBox, role: "group" }, grid, dots, circle, ...handles);
  const title = make("p", { class: "title" });
  const square = make("div", { class: "square" }, canvas, svg);
  const node = make("div", { class: "plane", "data-panel": name }, title, square);

  const lattice = remembering((flow, level, size) => {
    const axis = Array.from({ length: size }, (_, i) => -RANGE + (2 * RANGE * (i + 0.5)) / size);
    const places = axis.flatMap((y) => axis.flatMap((x) => [x, -y]));
    return move(flow, places, level, flow.length);
  });

  /** Paint the density at a level; the Gaussian has this mean and spread. */
  const paintDensity = remembering(({ flow, set, mean, spread }, level, size) => {
    const field = lattice(`${set} ${level} ${size}`, flow, level, size);
    // The unit Gaussian sets the scale, so that a narrower one is seen to be denser.
    const usual = logDensity(field, [0, 0], 1).reduce((a, b) => Math.max(a, b));
    const accent = colourOf(node, "--accent");
    canvas.width = canvas.height = size;
    paint(canvas, logDensity(field, mean, spread), (value) => {
      const share = Math.min(Math.exp(value - usual), 1);
      return [...accent, 255 * share ** 0.6];
    });
  });

  const drawing = (node) => remembering((path) => node.setAttribute("d", path()));
  const paths = { grid: drawing(grid), dots: drawing(dots) };

  /** Put the handles at these places; the chosen one stands out. */
  function placeHandles(places, chosen) {
    handles.forEach((handle, i) => {
      const which = Number(handle.dataset.which);
      handle.at = places[i];
      handle.classList.toggle("is-chosen", which === chosen);
      const what = which === CENTRE ? "Mean of the Gaussian" : `Point ${which + 1}`;
      handle.setAttribute("transform", `translate(${toX(places[i][0])} ${toY(places[i][1])})`);
      handle.setAttribute("aria-label", `${what} at ${pair(places[i])}; arrow keys move it, with Shift faster`);
    });
  }

  return { node, svg, title, circle, paths, paintDensity, placeHandles };
}
