// The page: takes pictures, shows predictions. ask.js makes them, on a server or in this browser.
import { about, ask, MAX_BYTES, NeedsToken, useToken } from "./ask.js";
import { bar, byId, element, percent } from "./elements.js";

let latestRequest = 0; // results of earlier requests are not shown
let lastPicture = null;

function showStatus(text, isError = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("error", isError);
}

function headline({ label, probability, verdict, top }) {
  const second = top[1] ? `, or ${top[1].label}` : "";
  if (verdict === "unknown") return `Unknown: unlike all classes; the nearest is ${label}`;
  if (verdict === "unsure") return `Not sure: perhaps ${label} (${percent(probability)})${second}`;
  return `${verdict ? "Sure: " : ""}${label} (${percent(probability)})`;
}

function showPrediction(prediction) {
  byId("result").hidden = false;
  byId("verdict").textContent = headline(prediction);
  byId("verdict").classList.toggle("unsure", ["unsure", "unknown"].includes(prediction.verdict));
  byId("note").textContent = prediction.note;
  byId("note").hidden = !prediction.note;
  byId("bars").replaceChildren(...prediction.top.slice(0, 10).map(bar));
}

function showSteps(steps) {
  const figures = steps.map(({ caption, url }) =>
    element("figure", {}, element("img", { src: url, alt: caption }), element("figcaption", { textContent: caption })),
  );
  byId("steps").replaceChildren(...figures);
}

async function classify(picture) {
  const request = ++latestRequest;
  lastPicture = picture;
  if (picture.size > MAX_BYTES) {
    showStatus(`The file has ${(picture.size / 2 ** 20).toFixed(0)} MB. At most ${MAX_BYTES / 2 ** 20} MB are supported.`, true);
    return;
  }
  showStatus("Classifying…");
  byId("result").hidden = true; // it is about another picture
  try {
    const prediction = await ask(picture, false);
    if (request !== latestRequest) return;
    showPrediction(prediction);
    showSteps([{ caption: "network input", url: prediction.seen }]);
    byId("legend").hidden = true;
    showStatus("Finding the areas that matter for the prediction…");
    await explain(picture, request);
  } catch (error) {
    if (request === latestRequest) showError(error);
  }
}

async function explain(picture, request) {
  let steps;
  try {
    ({ steps } = await ask(picture, true));
  } catch (error) {
    if (error instanceof NeedsToken) throw error;
    if (request === latestRequest) showStatus(`The prediction is not explained: ${error.message}`);
    return;
  }
  if (request !== latestRequest) return;
  showSteps(steps);
  byId("legend").hidden = false;
  showStatus("");
  byId("result").scrollIntoView({ block: "nearest" });
}

function showError(error) {
  showStatus(error.message, true);
  byId("token").hidden = !(error instanceof NeedsToken);
}

function classifyFirst(files) {
  const isPicture = ({ type, name }) => type.startsWith("image/") || /\.hei[cf]$/i.test(name);
  const picture = [...files].find(isPicture);
  if (picture) classify(picture);
  else showStatus("This file is not a picture. JPEG, PNG and WebP are supported.", true);
}

for (const id of ["file", "photo"]) {
  byId(id).addEventListener("change", ({ target }) => {
    if (target.files.length) classifyFirst(target.files);
    target.value = ""; // so that the same file can be chosen again
  });
}
document.addEventListener("paste", ({ clipboardData }) => {
  if (clipboardData.files.length) classifyFirst(clipboardData.files);
});
for (const type of ["dragenter", "dragover"]) {
  document.addEventListener(type, (event) => {
    event.preventDefault();
    byId("drop").classList.add("over");
  });
}
document.addEventListener("dragleave", ({ relatedTarget }) => {
  if (!relatedTarget) byId("drop").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  byId("drop").classList.remove("over");
  classifyFirst(event.dataTransfer.files);
});
byId("token").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken(event.target.querySelector("input").value);
  byId("token").hidden = true;
  showStatus("");
  showModel();
  if (lastPicture) classify(lastPicture);
});

function showSamples(classNames) {
  const items = classNames.map((name, k) => {
    const image = element("img", { src: `static/samples/${k}.png`, alt: `Sample: ${name}`, title: name });
    const button = element("button", { type: "button" }, image);
    button.addEventListener("click", async () => classify(await (await fetch(image.src)).blob()));
    return element("li", {}, button);
  });
  byId("samples").hidden = false;
  byId("samples").querySelector("ul").append(...items);
}

/** The texts for a model of whole pictures, of `what`. */
function describePictures(what, advice) {
  document.title = document.querySelector("h1").textContent = `What ${what}?`;
  byId("hint").textContent = `${advice}You can also drop or paste a picture here.`;
}

async function showModel() {
  try {
    const { name, sha256, class_names: classNames, preparation, preset, test, cross_validation: crossValidation, privacy, unknown_below: unknownBelow } = await about();
    const isPhotoModel = preparation === "photo";
    byId("about").textContent = `A neural network recognizes which of ${classNames.length} classes a picture shows: ${classNames.join(", ")}.`;
    if (preset === "clothes") describePictures("garment is this", "It works best with a photo of one whole garment. ");
    else if (!isPhotoModel) describePictures("is in this picture", "");
    else if (byId("samples").hidden) showSamples(classNames);
    const unlike = unknownBelow == null ? "assigns every picture to one of them" : "calls a picture of something else unknown only if it is unlike its training pictures";
    const sentences = [`It knows only these classes and ${unlike}.`, privacy];
    if (crossValidation) {
      const accuracy = `${(100 * crossValidation.accuracy).toFixed(1)} % of ${crossValidation.photos} photos`;
      sentences.unshift(`In cross-validation, ${accuracy} by people who were not in the training data were classified correctly.`);
    } else if (test?.accuracy) {
      const accuracy = `${(100 * test.accuracy).toFixed(1)} % of ${test.examples.toLocaleString("en")} test images`;
      sentences.unshift(`The network classifies ${accuracy} correctly${isPhotoModel ? "; photos are harder" : ""}.`);
    }
    byId("foot").textContent = `${sentences.join(" ")} Model: ${name}, SHA-256 ${sha256.slice(0, 16)}…`;
  } catch (error) {
    showError(error);
  }
}

showModel();
