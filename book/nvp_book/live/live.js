// What the live figures share: making elements, controls, noise, and following the page's theme.

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "g", "rect", "text", "path", "circle"]);

/** An element with these attributes (`on...` are listeners) and children (nodes or text). */
function make(tag, attributes = {}, ...children) {
  const node = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  setAll(node, attributes);
  node.append(...children);
  return node;
}

function setAll(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
}

const button = (label, onclick) => make("button", { type: "button", onclick }, label);

/** A panel under its title. */
function panel(title, ...parts) {
  return make("div", { class: "panel" }, make("p", { class: "title" }, title), ...parts);
}

/** A row of radio buttons: options are { value: label }; `changed` gets the chosen value. */
function radios(legend, name, options, chosen, changed) {
  const choices = Object.entries(options).map(([value, label]) => {
    const input = make("input", { type: "radio", name, value, onchange: () => changed(value) });
    input.checked = value === String(chosen);
    return make("label", { class: "choice" }, input, make("span", {}, label));
  });
  return make("fieldset", { "data-control": name }, make("legend", {}, legend), ...choices);
}

/** A slider with its value beside it; `shown` makes the text of a value. */
function slider(label, name, { min = 0, max, step = 1, value, shown = String }, changed) {
  // The text of the value is the input's own, too; a live region would read out every change.
  const output = make("output", { "aria-hidden": "true" });
  const oninput = () => {
    write(Number(input.value));
    changed(Number(input.value));
  };
  const input = make("input", { type: "range", name, min, max, step, oninput });
  function write(next) {
    output.textContent = shown(next);
    input.setAttribute("aria-valuetext", output.textContent);
  }
  const field = make("label", { class: "field", "data-control": name }, label, input, output);
  /** Move the slider from the program, to a value within a new maximum. */
  field.set = (next, highest = max) => {
    input.max = highest;
    input.value = next;
    write(next);
  };
  field.set(value);
  return field;
}

/** Put `text` into a status line, which is read out where it is another one. */
function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A source of uniform numbers in (0, 1), the same on every visit: 32 bits of state. */
function makeUniform() {
  let state = 1;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
}

/** A source of normal numbers, by Box-Muller. */
function makeNormal() {
  const uniform = makeUniform();
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}

/** Red, green and blue of a colour of the style, 0 to 255. */
function colourOf(root, name) {
  const hex = getComputedStyle(root).getPropertyValue(name).trim();
  return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
}

/** Paint values, line by line: `colour` makes red, green, blue and opacity of a value and its place. */
function paint(canvas, values, colour, { width } = canvas, left = 0, top = 0) {
  const image = new ImageData(width, values.length / width);
  values.forEach((value, p) => image.data.set(colour(value, p), 4 * p));
  canvas.getContext("2d").putImageData(image, left, top);
}

/** Where an event is within a node: shares of its width and its height. */
function placeIn(node, { clientX, clientY }) {
  const box = node.getBoundingClientRect();
  return [(clientX - box.left) / box.width, (clientY - box.top) / box.height];
}

/** Call `choose` with the place within a node that a mouse presses or a finger taps. */
function onPress(node, choose) {
  for (const kind of ["pointerdown", "pointermove", "pointerup"])
    node.addEventListener(kind, (event) => {
      // A finger that scrolls the page sends no "pointerup"; a mouse that was pressed here goes on choosing.
      const isMouse = event.pointerType === "mouse";
      if (isMouse && kind === "pointerdown" && !event.button)
        node.setPointerCapture(event.pointerId);
      const chooses = isMouse ? node.hasPointerCapture(event.pointerId) : kind === "pointerup";
      if (chooses) choose(...placeIn(node, event));
    });
}

/** Call `step` with the rows down and the columns to the right that an arrow key means. */
function onArrow(node, step) {
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  node.addEventListener("keydown", (event) => {
    if (!steps[event.key] || hasModifier(event)) return;
    event.preventDefault();
    step(...steps[event.key], event);
  });
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** What calls `draw` soon, once for all calls until then. */
function soon(draw) {
  let frame = 0;
  return () => {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(draw);
  };
}

/** Whether a key is a shortcut of the browser or of a screen reader, which a figure leaves alone. */
const hasModifier = (event) => event.altKey || event.ctrlKey || event.metaKey;

/** Whether the page is dark: as the book says, as JupyterLab says, or as the system prefers. */
function isDark() {
  const { theme } = document.documentElement.dataset;
  if (theme === "dark" || theme === "light") return theme === "dark";
  const { jpThemeLight } = document.body.dataset;
  if (jpThemeLight) return jpThemeLight === "false";
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

/** Keep `data-theme` of every figure as the page has it; a figure that changes hears "theme". */
function followTheme() {
  const theme = isDark() ? "dark" : "light";
  for (const host of document.querySelectorAll(".nvp-live")) {
    if (host.dataset.theme === theme) continue;
    host.dataset.theme = theme;
    host.dispatchEvent(new Event("theme"));
  }
}

/**
 * Listen to the page for all its figures, once. Listeners of each figure would keep alive the one
 * that a notebook's cell has replaced.
 */
function followPage() {
  followTheme();
  if (document.nvpLive) return;
  document.nvpLive = true;
  const observer = new MutationObserver(followTheme);
  observer.observe(document.documentElement, { attributeFilter: ["data-theme"] });
  observer.observe(document.body, { attributeFilter: ["data-jp-theme-light"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", followTheme);
  addEventListener("beforeprint", () => {
    followTheme(); // window.print() tells no observer before it prints
    for (const host of document.querySelectorAll(".nvp-live"))
      host.dispatchEvent(new Event("print"));
  });
}

/**
 * Build the figure in every place of the page that waits for it. `build` gets the element to fill
 * and returns what redraws it in new colours, or nothing.
 */
function mount(place, style, build) {
  followPage();
  for (const host of document.querySelectorAll(`.nvp-live[data-figure="${place}"]`)) {
    if (host.shadowRoot) continue;
    host.dataset.lmSuppressShortcuts = ""; // JupyterLab would take the arrow keys for its cells
    const root = make("div", { class: "figure" });
    host.attachShadow({ mode: "open" }).append(make("style", {}, style), root);
    try {
      const redraw = build(root);
      if (redraw) host.addEventListener("theme", redraw);
    } catch (error) {
      // What stands there for those without scripts, and why it is not the figure.
      const why = make("p", {}, `This figure could not be drawn: ${error.message}`);
      root.replaceChildren(why, make("slot"));
      throw error;
    }
  }
}
