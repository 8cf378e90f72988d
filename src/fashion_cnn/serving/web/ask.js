// Answers from the model itself, in this browser: nothing leaves it.
import * as ort from "./ort.wasm.bundle.min.mjs";
import { prepare } from "./photo.js";

const MOST_PIXELS = 16e6; // some browsers' canvases hold no more
const COVER = 5, STEP = 4; // of the map of the evidence, in pixels of 28
const ORANGE = [230, 159, 0], BLUE = [0, 114, 178];
document.getElementById("disk")?.remove();
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = { wasm: new URL("./ort-wasm-simd-threaded.wasm", import.meta.url).href };

const card = fetch("model.json").then((found) => found.json());
const session = ort.InferenceSession.create("model.onnx");

export class NeedsToken extends Error {}
export function useToken() {}

export async function about() {
  await session;
  return { ...(await card), kept: "Pictures do not leave this browser." };
}

/** Probabilities, one Float32Array an image, of images of 28x28 pixels. */
export async function probabilities(images) {
  const { input: { height, width, channels } } = await card, network = await session;
  const pixels = Uint8Array.from(images.flatMap((image) => [...image]));
  const given = new ort.Tensor("uint8", pixels, [images.length, height, width, channels]);
  const { data } = (await network.run({ [network.inputNames[0]]: given }))[network.outputNames[0]];
  const classes = data.length / images.length;
  return images.map((_, k) => data.slice(k * classes, (k + 1) * classes));
}

/** RGBA pixels of a picture, upright, as Pillow makes a large one smaller. */
async function decode(picture) {
  const bitmap = await createImageBitmap(picture, { imageOrientation: "from-image" }).catch(() => {
    throw new Error("That file cannot be read; JPEG, PNG and WebP are.");
  });
  const scale = Math.min(1, Math.sqrt(MOST_PIXELS / (bitmap.width * bitmap.height)));
  const [width, height] = [bitmap.width, bitmap.height].map((n) => Math.max(1, Math.floor(n * scale)));
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0, width, height);
  const image = context.getImageData(0, 0, width, height);
  const factor = Math.floor(Math.max(width, height) / 448);
  return factor > 1 ? reduced(image, factor) : image;
}

function reduced({ data, width, height }, factor) {
  const wide = Math.ceil(width / factor), high = Math.ceil(height / factor);
  const small = new Uint8ClampedArray(4 * wide * high);
  for (let y = 0; y < high; y++)
    for (let x = 0; x < wide; x++) {
      const sums = [0, 0, 0, 0];
      let count = 0;
      for (let v = y * factor; v < Math.min(height, (y + 1) * factor); v++)
        for (let u = x * factor; u < Math.min(width, (x + 1) * factor); u++, count++)
          for (let c = 0, i = 4 * (v * width + u), alpha = data[i + 3] / 255; c < 4; c++) sums[c] += data[i + c] * (c < 3 ? alpha : 1);
      const alpha = sums[3] / 255 || 1;
      for (let c = 0; c < 4; c++) small[4 * (y * wide + x) + c] = Math.round(sums[c] / (c < 3 ? alpha : count));
    }
  return { data: small, width: wide, height: high };
}

function url(width, height, colour) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) image.data.set([...colour(i), 255], 4 * i);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas.toDataURL();
}

const grey = (x) => [x, x, x];

/** Where the evidence is: how much less probable the answer is without each place. */
async function evidence(pixels, { height, width }, best, before) {
  const sums = new Float64Array(height * width), counts = new Float64Array(height * width);
  for (let y = 1 - COVER; y < height; y += STEP) {
    const covers = [];
    for (let x = 1 - COVER; x < width; x += STEP)
      covers.push(Array.from(pixels, (_, i) => i).filter((i) => i % width >= x && i % width < x + COVER && i >= y * width && i < (y + COVER) * width));
    const rows = await probabilities(covers.map((cover) => pixels.map((p, i) => (cover.includes(i) ? 0 : p))));
    covers.forEach((cover, k) => cover.forEach((i) => { sums[i] += before - rows[k][best]; counts[i]++; }));
    await new Promise(requestAnimationFrame); // the page stays alive
  }
  const drops = sums.map((total, i) => total / counts[i]), most = Math.max(...drops.map(Math.abs), 1e-6);
  return url(width, height, (i) => {
    const strength = Math.abs(drops[i]) / most;
    return (drops[i] > 0 ? ORANGE : BLUE).map((c) => 0.45 * pixels[i] + strength * (c - 0.45 * pixels[i]));
  });
}

let looked = { picture: null };

export async function ask(picture, explain) {
  const { class_names: names, input, threshold } = await card;
  const seen = looked.picture === picture ? looked.seen : prepare(await decode(picture));
  looked = { picture, seen };
  const [row] = await probabilities([seen.pixels]);
  const top = names.map((label, k) => ({ label, probability: row[k], k })).sort((a, b) => b.probability - a.probability);
  const sure = top[0].probability >= threshold && !seen.note;
  const { height, width } = seen.photo[0], [r, g, b] = seen.photo.map((x) => x.data);
  const network = url(input.width, input.height, (i) => grey(seen.pixels[i]));
  const steps = [{ caption: "the picture", url: url(width, height, (i) => [r[i], g[i], b[i]]) }];
  if (seen.garmentProbability) {
    steps.push({ caption: "how surely garment", url: url(width, height, (i) => grey(255 * seen.garmentProbability.data[i])) });
    steps.push({ caption: "the garment, cut out", url: url(width, height, (i) => [r, g, b].map((c) => c[i] * (seen.mask.data[i] ? 1 : 0.15))) });
  }
  steps.push({ caption: `the network sees ${input.height}x${input.width}`, url: network });
  if (explain) steps.push({ caption: "where the evidence is", url: await evidence(seen.pixels, input, top[0].k, top[0].probability) });
  return { ...top[0], verdict: threshold == null ? "" : sure ? "sure" : "unsure", note: seen.note, top, seen: network, steps };
}
