// A page is printed in light colours, also where the screen is dark. The theme would print pale code and
// formulas on white, or black headings on black.
(() => {
  const { dataset } = document.documentElement;
  let theme;
  let folded = [];
  addEventListener("beforeprint", () => {
    theme = dataset.theme;
    dataset.theme = "light";
    // Folds of text and tables are opened; nvp.css leaves out those of code.
    folded = [...document.querySelectorAll(".bd-article details:not([open], :has(pre))")];
    for (const fold of folded) fold.open = true;
  });
  addEventListener("afterprint", () => {
    dataset.theme = theme;
    for (const fold of folded) fold.open = false;
  });
})();
