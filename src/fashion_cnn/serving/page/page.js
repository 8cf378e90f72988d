// Pictures in, what is said of them out. Who answers is in ask.js: a server, or this browser.
import { about, ask, NeedsToken, useToken } from "./ask.js";

const MOST_BYTES = 16 * 2 ** 20;
const at = (id) => document.getElementById(id);
let asked = 0; // only the newest answer is shown
let last = null;

function tell(text, wrong = false) {
  at("status").textContent = text;
  at("status").classList.toggle("wrong", wrong);
}

function element(kind, properties, ...inside) {
  const made = Object.assign(document.createElement(kind), properties);
  made.append(...inside);
  return made;
}

const percent = (share) => `${(100 * share).toFixed(share > 0.995 || share < 0.0995 ? 1 : 0)} %`;

function words({ label, probability, verdict, top }) {
  const next = top[1] ? `, or ${top[1].label}` : "";
  if (verdict === "unsure") return `Not sure: perhaps ${label} (${percent(probability)})${next}`;
  return `${label}, ${percent(probability)}${verdict ? " sure" : ""}`;
}

function showAnswer(answer) {
  at("result").hidden = false;
  at("verdict").textContent = words(answer);
  at("verdict").classList.toggle("unsure", answer.verdict === "unsure");
  at("note").textContent = answer.note;
  at("note").hidden = !answer.note;
  at("bars").replaceChildren(
    ...answer.top.slice(0, 10).map(({ label, probability }) => {
      const full = element("i", {});
      full.style.width = `${100 * probability}%`;
      return element(
        "li",
        {},
        element("span", { className: "name", textContent: label, title: label }),
        element("span", { className: "bar", ariaHidden: "true" }, full),
        element("span", { className: "share", textContent: percent(probability) }),
      );
    }),
  );
}

function showSteps(steps) {
  at("steps").replaceChildren(
    ...steps.map(({ caption, url }) =>
      element(
        "figure",
        {},
        element("img", { src: url, alt: caption }),
        element("figcaption", { textContent: caption }),
      ),
    ),
  );
  at("legend").hidden = false;
}

async function look(picture) {
  const mine = ++asked;
  last = picture;
  if (picture.size > MOST_BYTES) {
    tell(`That file has ${(picture.size / 2 ** 20).toFixed(0)} MB; 16 are read.`, true);
    return;
  }
  tell("Looking…");
  try {
    const answer = await ask(picture, false);
    if (mine !== asked) return;
    showAnswer(answer);
    at("steps").replaceChildren(
      element("figure", {}, element("img", { src: answer.seen, alt: "" }), element("figcaption", { textContent: "the network sees" })),
    );
    at("legend").hidden = true;
    tell("Looking where the evidence is…");
    const explained = await ask(picture, true);
    if (mine !== asked) return;
    showSteps(explained.steps);
    tell("");
    at("result").scrollIntoView({ block: "nearest" });
  } catch (error) {
    if (mine !== asked) return;
    at("result").hidden = true;
    fail(error);
  }
}

function fail(error) {
  tell(error.message, true);
  at("token").hidden = !(error instanceof NeedsToken);
}

function lookAtFirst(files) {
  const picture = [...files].find((file) => file.type.startsWith("image/"));
  if (picture) look(picture);
  else tell("That is no picture; JPEG, PNG and WebP are read.", true);
}

for (const id of ["file", "photo"]) {
  at(id).addEventListener("change", ({ target }) => {
    if (target.files.length) lookAtFirst(target.files);
    target.value = ""; // the same file may be chosen again
  });
}
document.addEventListener("paste", ({ clipboardData }) => {
  if (clipboardData.files.length) lookAtFirst(clipboardData.files);
});
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    at("drop").classList.add("over");
  });
}
document.addEventListener("dragleave", ({ relatedTarget }) => {
  if (!relatedTarget) at("drop").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  lookAtFirst(event.dataTransfer.files);
});
at("token").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken(event.target.querySelector("input").value);
  at("token").hidden = true;
  tell("");
  introduce();
  if (last) look(last);
});

function showSamples(names) {
  at("samples").hidden = false;
  at("samples").querySelector("ul").append(
    ...names.map((name, k) => {
      const image = element("img", { src: `static/samples/${k}.png`, alt: `Sample: ${name}`, title: name });
      const button = element("button", { type: "button" }, image);
      button.addEventListener("click", async () => look(await (await fetch(image.src)).blob()));
      return element("li", {}, button);
    }),
  );
}

async function introduce() {
  try {
    const { name, sha256, class_names: names, preparation, test, kept } = await about();
    at("about").textContent = `A convolutional network, “${name}”, looks at a picture and says which of ${names.length} kinds of things is on it: ${names.join(", ")}.`;
    if (preparation === "photo" && at("samples").hidden) showSamples(names);
    const share = test?.accuracy ? `It was right on ${(100 * test.accuracy).toFixed(1)} % of ${test.examples.toLocaleString("en")} test images${preparation === "photo" ? "; photos are harder" : ""}. ` : "";
    at("foot").textContent = `${share}It knows no other kinds: whatever it is shown, it names one of these, or is unsure. ${kept} SHA-256 ${sha256.slice(0, 16)}…`;
  } catch (error) {
    fail(error);
  }
}

introduce();
