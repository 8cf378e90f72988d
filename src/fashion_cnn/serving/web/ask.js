// Predictions by the model itself, in this browser: no picture leaves it.
import * as ort from "./ort.wasm.bundle.min.js";
import { prepare } from "./photo.js";
import { fit, keepSize, readRgba } from "./pictures.js";

export const MAX_BYTES = 64 * 2 ** 20; // of a file
const PHOTO_EDGE = 448; // pixels of the longest edge that `prepare` shrinks
const FASHION_MNIST_NOTE = "a 28x28 gray picture, like Fashion-MNIST's; the preset standard is made for these";
const ORANGE = [230, 159, 0], BLUE = [0, 114, 178];
document.getElementById("disk")?.remove();
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = { wasm: new URL("./ort-wasm-simd-threaded.wasm", import.meta.url).href };

const card = fetch("model.json").then((response) => response.json());
const session = ort.InferenceSession.create("model.onnx");

export class NeedsToken extends Error {}
export function useToken() {}

/** The model's card, and a sentence on privacy. */
export async function about() {
  await session;
  return { ...(await card), privacy: "Pictures do not leave this browser." };
}

/** Probabilities of images of the size of its input: one Float32Array per image. */
export async function probabilities(images) {
  return (await outputs(images)).probabilities;
}

/** Their probabilities, and their similarities to the training images if the model measures them. */
async function outputs(images) {
  const { input: { height, width, channels } } = await card, network = await session;
  const pixels = Uint8Array.from(images.flatMap((image) => [...image]));
  const tensor = new ort.Tensor("uint8", pixels, [images.length, height, width, channels]);
  const results = await network.run({ [network.inputNames[0]]: tensor });
  const [{ data }, similarity] = network.outputNames.map((name) => results[name]);
  const classes = data.length / images.length;
  const rows = images.map((_, k) => data.slice(k * classes, (k + 1) * classes));
  return { probabilities: rows, similarities: similarity?.data };
}

/** PreparedImage of a picture: see `Classifier.prepare`. */
async function prepareFile(picture) {
  const { input, preparation, preset } = await card;
  const image = await readRgba(picture, preparation === "photo" ? PHOTO_EDGE : 2 * Math.max(input.height, input.width));
  if (preparation === "photo") return prepare(image);
  if (preparation !== "fit") return keepSize(image, input);
  const prepared = fit(image, input);
  return preset === "clothes" && isGray28x28(prepared.photo) ? { ...prepared, note: FASHION_MNIST_NOTE } : prepared;
}

const isGray28x28 = ([red, green, blue]) =>
  red.width === 28 && red.height === 28 && red.data.every((x, i) => x === green.data[i] && x === blue.data[i]);

/** A data URL of an image; `color(i)` gives the RGB values of pixel i. */
function toUrl(width, height, color) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) image.data.set([...color(i), 255], 4 * i);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas.toDataURL();
}

const gray = (x) => [x, x, x];

/** Colors of the network's input, as `toUrl` takes them. */
function inputColors(pixels, channels) {
  return (i) => (channels === 1 ? gray(pixels[i]) : pixels.subarray(3 * i, 3 * i + 3));
}

/** Occlusion map: the mean drop of a class's probability when black squares cover each pixel. */
async function occlusionMap(pixels, { height, width, channels }, classIndex, probability) {
  const side = Math.max(2, Math.floor(width / 5)), stride = Math.max(2, Math.floor(width / 7));
  const sums = new Float64Array(height * width), counts = new Float64Array(height * width);
  for (let top = 1 - side; top < height; top += stride)
    for (let left = 1 - side; left < width; left += stride) {
      if (cached.prepared.pixels !== pixels) throw new Error("Another picture was chosen."); // which the page does not show
      const occluded = pixels.slice(), covered = [];
      for (let y = Math.max(0, top); y < Math.min(height, top + side); y++)
        for (let x = Math.max(0, left); x < Math.min(width, left + side); x++) covered.push(y * width + x);
      for (const i of covered) occluded.fill(0, i * channels, (i + 1) * channels);
      const [row] = await probabilities([occluded]);
      for (const i of covered) {
        sums[i] += probability - row[classIndex];
        counts[i]++;
      }
      await new Promise((resolve) => setTimeout(resolve)); // keeps the page responsive
    }
  const drops = sums.map((total, i) => total / counts[i]), color = inputColors(pixels, channels);
  const largest = drops.reduce((most, drop) => Math.max(most, Math.abs(drop)), 1e-6);
  return toUrl(width, height, (i) => {
    const strength = Math.abs(drops[i]) / largest, dark = [...color(i)].map((c) => 0.45 * c);
    return (drops[i] > 0 ? ORANGE : BLUE).map((c, k) => dark[k] + strength * (c - dark[k]));
  });
}

/** Captions and images of the steps from the picture to the network's input. */
function processingSteps(prepared, input, inputUrl) {
  const { photo, garmentProbability, mask } = prepared;
  const { height, width } = photo[0], [r, g, b] = photo.map((x) => x.data);
  const steps = [{ caption: "photo", url: toUrl(width, height, (i) => [r[i], g[i], b[i]]) }];
  if (garmentProbability) {
    const dimmed = (i) => [r, g, b].map((c) => c[i] * (mask.data[i] ? 1 : 0.15));
    steps.push({ caption: "garment probability", url: toUrl(width, height, (i) => gray(255 * garmentProbability.data[i])) });
    steps.push({ caption: "segmented garment", url: toUrl(width, height, dimmed) });
  }
  return [...steps, { caption: `network input, ${input.height}x${input.width}`, url: inputUrl }];
}

let cached = { picture: null };

/** The prediction on a picture; with `explain` also an occlusion map. */
export async function ask(picture, explain) {
  const { class_names: classNames, input, threshold, unknown_below: unknownBelow } = await card;
  const prepared = cached.picture === picture ? cached.prepared : await prepareFile(picture);
  cached = { picture, prepared };
  const { probabilities: [row], similarities } = await outputs([prepared.pixels]);
  const top = classNames.map((label, index) => ({ label, probability: row[index], index }));
  top.sort((a, b) => b.probability - a.probability);
  const sure = top[0].probability >= threshold && !prepared.note;
  const unknown = unknownBelow != null && similarities[0] < unknownBelow;
  const verdict = unknown ? "unknown" : threshold == null ? "" : sure ? "sure" : "unsure";
  const seen = toUrl(input.width, input.height, inputColors(prepared.pixels, input.channels));
  const steps = processingSteps(prepared, input, seen);
  if (explain) {
    const url = await occlusionMap(prepared.pixels, input, top[0].index, top[0].probability);
    steps.push({ caption: "occlusion map", url });
  }
  return { ...top[0], verdict, note: prepared.note, top, seen, steps };
}
