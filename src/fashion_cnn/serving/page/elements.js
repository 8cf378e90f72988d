// Pieces of both pages: the one of `serve` and the one of `label`.

export const byId = (id) => document.getElementById(id);

export function element(tag, properties, ...children) {
  const created = Object.assign(document.createElement(tag), properties);
  created.append(...children);
  return created;
}

export const percent = (share) => `${(100 * share).toFixed(share > 0.995 || share < 0.0995 ? 1 : 0)} %`;

/** A class and its probability, as an item of a list. */
export function bar({ label, probability }) {
  const fill = element("i", {});
  fill.style.width = `${100 * probability}%`;
  return element(
    "li",
    {},
    element("span", { className: "name", textContent: label, title: label }),
    element("span", { className: "bar", ariaHidden: "true" }, fill),
    element("span", { className: "share", textContent: percent(probability) }),
  );
}
