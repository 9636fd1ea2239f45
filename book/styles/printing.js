// A page is printed in light colours, also where the screen is dark. The theme would print pale code and
// formulas on white, or black headings on black.
(() => {
  const { dataset } = document.documentElement;
  let theme;
  addEventListener("beforeprint", () => { theme = dataset.theme; dataset.theme = "light"; });
  addEventListener("afterprint", () => { dataset.theme = theme; });
})();
