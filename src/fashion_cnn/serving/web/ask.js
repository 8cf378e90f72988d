// Predictions by the model itself, in this browser: no picture leaves it.
import * as ort from "./ort.wasm.bundle.min.mjs";
import { prepare } from "./photo.js";

const MAX_PIXELS = 16e6; // the canvas of some browsers holds no more
const SQUARE = 5, STRIDE = 4; // of the occlusion map, in pixels of 28
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

/** Probabilities of images of 28x28 pixels: one Float32Array per image. */
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

/** Upright RGBA pixels of a picture; a large one is reduced as Pillow does it. */
async function decode(picture) {
  const bitmap = await createImageBitmap(picture, { imageOrientation: "from-image" }).catch(() => {
    throw new Error("This file cannot be read; JPEG, PNG and WebP are supported.");
  });
  const scale = Math.min(1, Math.sqrt(MAX_PIXELS / (bitmap.width * bitmap.height)));
  const [width, height] = [bitmap.width, bitmap.height].map((n) => Math.max(1, Math.floor(n * scale)));
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0, width, height);
  const image = context.getImageData(0, 0, width, height);
  const factor = Math.floor(Math.max(width, height) / 448);
  return factor > 1 ? reduce(image, factor) : image;
}

/** Means over squares of `factor` pixels, colors weighted by their opacity. */
function reduce({ data, width, height }, factor) {
  const columns = Math.ceil(width / factor), rows = Math.ceil(height / factor);
  const reduced = new Uint8ClampedArray(4 * columns * rows);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) {
      const sums = [0, 0, 0, 0];
      let count = 0;
      for (let y = row * factor; y < Math.min(height, (row + 1) * factor); y++)
        for (let x = column * factor; x < Math.min(width, (column + 1) * factor); x++, count++) {
          const i = 4 * (y * width + x), alpha = data[i + 3] / 255;
          for (let c = 0; c < 4; c++) sums[c] += data[i + c] * (c < 3 ? alpha : 1);
        }
      const alpha = sums[3] / 255 || 1;
      for (let c = 0; c < 4; c++)
        reduced[4 * (row * columns + column) + c] = Math.round(sums[c] / (c < 3 ? alpha : count));
    }
  return { data: reduced, width: columns, height: rows };
}

/** A data URL of an image; `color(i)` gives the RGB values of pixel i. */
function toUrl(width, height, color) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) image.data.set([...color(i), 255], 4 * i);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas.toDataURL();
}

const gray = (x) => [x, x, x];

/** Occlusion map: the mean drop of a class's probability when black squares cover each pixel. */
async function occlusionMap(pixels, { height, width }, classIndex, probability) {
  const sums = new Float64Array(height * width), counts = new Float64Array(height * width);
  for (let top = 1 - SQUARE; top < height; top += STRIDE) {
    const squares = []; // pixel indices of each
    for (let left = 1 - SQUARE; left < width; left += STRIDE) {
      const isCovered = (y, x) => y >= top && y < top + SQUARE && x >= left && x < left + SQUARE;
      squares.push([...pixels.keys()].filter((i) => isCovered(Math.floor(i / width), i % width)));
    }
    const occluded = squares.map((square) => pixels.map((value, i) => (square.includes(i) ? 0 : value)));
    const rows = await probabilities(occluded);
    squares.forEach((square, k) => {
      for (const i of square) {
        sums[i] += probability - rows[k][classIndex];
        counts[i]++;
      }
    });
    await new Promise(requestAnimationFrame); // keeps the page responsive
  }
  const drops = sums.map((total, i) => total / counts[i]);
  const largest = Math.max(...drops.map(Math.abs), 1e-6);
  return toUrl(width, height, (i) => {
    const strength = Math.abs(drops[i]) / largest;
    return (drops[i] > 0 ? ORANGE : BLUE).map((c) => 0.45 * pixels[i] + strength * (c - 0.45 * pixels[i]));
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
  const prepared = cached.picture === picture ? cached.prepared : prepare(await decode(picture));
  cached = { picture, prepared };
  const { probabilities: [row], similarities } = await outputs([prepared.pixels]);
  const top = classNames.map((label, index) => ({ label, probability: row[index], index }));
  top.sort((a, b) => b.probability - a.probability);
  const sure = top[0].probability >= threshold && !prepared.note;
  const unknown = unknownBelow != null && similarities[0] < unknownBelow;
  const verdict = unknown ? "unknown" : threshold == null ? "" : sure ? "sure" : "unsure";
  const seen = toUrl(input.width, input.height, (i) => gray(prepared.pixels[i]));
  const steps = processingSteps(prepared, input, seen);
  if (explain) {
    const url = await occlusionMap(prepared.pixels, input, top[0].index, top[0].probability);
    steps.push({ caption: "occlusion map", url });
  }
  return { ...top[0], verdict, note: prepared.note, top, seen, steps };
}
