// data/pictures.py in JavaScript: the file of a picture goes in; upright RGBA pixels, or the input of a network,
// come out. Reduction, composition and resizing are those of Pillow, rounding included; a test compares the pixels.
const MIN_CONTRAST = 8; // of 256 levels; less counts as one color
const STRIP_PIXELS = 4e6; // copied at once; the canvas of some browsers holds at most 16 million
const ONE = 2 ** 22; // of the weights of the bicubic filter
const HEADER_BYTES = 2 ** 17; // which hold the orientation of a photo
const LEFT_IS_STORED_LAST = [2, 3, 6, 7], TOP_IS_STORED_LAST = [3, 4, 7, 8]; // orientations, by EXIF
const HEIC_BRANDS = ["heic", "heix", "heim", "heis", "mif1"];

/** Upright sRGB pixels with opacity; the longest edge keeps at least `minEdge` pixels. */
export async function readRgba(picture, minEdge) {
  const header = new DataView(await picture.slice(0, HEADER_BYTES).arrayBuffer());
  const bitmap = await createImageBitmap(picture, { imageOrientation: "from-image" }).catch(() => {
    const isHeic = text(header, 4, 8) === "ftyp" && HEIC_BRANDS.includes(text(header, 8, 12));
    if (isHeic) throw new Error("This browser cannot read HEIC, a format of phones; save the photo as JPEG.");
    throw new Error("This file cannot be read; JPEG, PNG and WebP are supported.");
  });
  const { width, height } = bitmap, isJpeg = text(header, 0, 3) === "\xff\xd8\xff";
  const [first, second] = reductionFactors(width, height, minEdge, isJpeg);
  if (first === 1) return readReduced(bitmap, second, 1);
  return reduce(await readReduced(bitmap, first, isJpeg ? orientation(header) : 1), second);
}

const text = (view, start, end) => String.fromCharCode(...new Uint8Array(view.buffer).subarray(start, end));

/** Pillow reduces a JPEG by 2, 4 or 8 while it is decoded, and then every picture. */
export function reductionFactors(width, height, minEdge, isJpeg) {
  const shorter = Math.floor(Math.min(width, height) / minEdge), longer = Math.max(width, height);
  const first = (isJpeg && [8, 4, 2].find((n) => n <= shorter)) || 1;
  return [first, Math.max(1, Math.floor(Math.ceil(longer / first) / minEdge))];
}

/** Orientation in the EXIF data of a JPEG: 1 to 8. */
function orientation(view) {
  try {
    for (let at = 2; view.getUint8(at) === 0xff; at += 2 + view.getUint16(at + 2)) {
      if (view.getUint16(at) !== 0xffe1 || text(view, at + 4, at + 8) !== "Exif") continue;
      const start = at + 10, isLittle = view.getUint16(start) === 0x4949, table = start + view.getUint32(start + 4, isLittle);
      for (let k = 0, entry = table + 2; k < view.getUint16(table, isLittle); k++, entry += 12)
        if (view.getUint16(entry, isLittle) === 0x0112) return view.getUint16(entry + 8, isLittle);
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return 1;
}

/** The pixels of a bitmap, reduced: strip after strip, because canvases and memory are limited. */
async function readReduced(bitmap, factor, orientation) {
  const { width, height } = bitmap, columns = Math.ceil(width / factor), rows = Math.ceil(height / factor);
  const skips = [LEFT_IS_STORED_LAST, TOP_IS_STORED_LAST].map((set) => set.includes(orientation));
  const skipX = skips[0] ? columns * factor - width : 0, skipY = skips[1] ? rows * factor - height : 0;
  const stripRows = factor * Math.max(1, Math.floor(STRIP_PIXELS / (width * factor)));
  const canvas = new OffscreenCanvas(width, Math.min(height, stripRows));
  const context = canvas.getContext("2d", { willReadFrequently: true }), data = new Uint8ClampedArray(4 * columns * rows);
  context.globalCompositeOperation = "copy";
  for (let end = stripRows - skipY, top = 0; top < height; top = end, end += stripRows) {
    const strip = Math.min(end, height) - top;
    context.drawImage(bitmap, 0, top, width, strip, 0, 0, width, strip);
    const reduced = reduce(context.getImageData(0, 0, width, strip), factor, skipX, top ? 0 : skipY);
    data.set(reduced.data, 4 * columns * Math.ceil(top / factor));
    await new Promise((resolve) => setTimeout(resolve)); // keeps the page responsive
  }
  bitmap.close();
  return { data, width: columns, height: rows };
}

/** Means over squares of `factor` pixels, colors weighted by their opacity; the first square lacks `skip` pixels. */
export function reduce(image, factor, skipX = 0, skipY = 0) {
  if (factor === 1) return image;
  const { data, width, height } = image, columns = Math.ceil((width + skipX) / factor), rows = Math.ceil((height + skipY) / factor);
  const reduced = new Uint8ClampedArray(4 * columns * rows);
  for (let row = 0, k = 0; row < rows; row++)
    for (let column = 0; column < columns; column++, k += 4) {
      const left = Math.max(0, column * factor - skipX), right = Math.min(width, (column + 1) * factor - skipX);
      const top = Math.max(0, row * factor - skipY), bottom = Math.min(height, (row + 1) * factor - skipY);
      let red = 0, green = 0, blue = 0, opacity = 0;
      for (let y = top; y < bottom; y++)
        for (let i = 4 * (y * width + left), end = i + 4 * (right - left); i < end; i += 4) {
          const alpha = data[i + 3];
          red += alpha === 255 ? data[i] : multiply(data[i], alpha);
          green += alpha === 255 ? data[i + 1] : multiply(data[i + 1], alpha);
          blue += alpha === 255 ? data[i + 2] : multiply(data[i + 2], alpha);
          opacity += alpha;
        }
      const count = (bottom - top) * (right - left), alpha = mean(opacity, count);
      const color = (total) => (alpha % 255 ? Math.floor((255 * mean(total, count)) / alpha) : mean(total, count));
      reduced.set([color(red), color(green), color(blue), alpha], k);
    }
  return { data: reduced, width: columns, height: rows };
}

function multiply(value, alpha) {
  const product = value * alpha + 128;
  return ((product >> 8) + product) >> 8; // product / 255
}

function mean(total, count) {
  const inverse = Math.trunc(Math.fround(2 ** 24 / count)); // float32 and uint32 in Pillow
  return Math.floor(((total + (count >> 1)) * inverse) / 2 ** 24);
}

/** `Classifier.prepare` with `fit`: resizes to the input of the network; transparent pixels become white. */
export function fit(image, input) {
  const { width, height } = image, rgb = composite(image, 255);
  const rows = resample(toChannels(rgb, input.channels), width, input.channels, input.width);
  const pixels = resample(rows, height, input.width * input.channels, input.height);
  return { photo: toPlanes(rgb, width, height), pixels: Uint8Array.from(pixels), note: "" };
}

/** `Classifier.prepare` without a preparation: only for pictures of the network's size; transparent becomes black. */
export function keepSize(image, input) {
  const { width, height } = image;
  if (width !== input.width || height !== input.height)
    throw new Error(`This model takes only pictures of ${input.width}x${input.height} pixels.`);
  const rgb = composite(image, 0);
  return { photo: toPlanes(rgb, width, height), pixels: Uint8Array.from(toChannels(rgb, input.channels)), note: "" };
}

/** RGB values on black or white: on the other one if the picture would vanish. */
function composite({ data }, background) {
  const rgb = onColor(data, background), other = isOneColor(rgb) ? onColor(data, 255 - background) : rgb;
  return isOneColor(other) ? rgb : other;
}

function onColor(data, background) {
  return Uint8ClampedArray.from({ length: (3 * data.length) / 4 }, (_, k) => {
    const i = 4 * Math.floor(k / 3), alpha = data[i + 3];
    const sum = data[i + (k % 3)] * alpha + background * (255 - alpha) + 128;
    return ((sum >> 1) + 128 * sum) >> 15; // sum / 255
  });
}

function isOneColor(rgb) {
  return [0, 1, 2].every((channel) => {
    let [low, high] = [255, 0];
    for (let i = channel; i < rgb.length; i += 3) [low, high] = [Math.min(low, rgb[i]), Math.max(high, rgb[i])];
    return high - low < MIN_CONTRAST;
  });
}

function toChannels(rgb, channels) {
  if (channels === 3) return rgb;
  const luma = (_, i) => (19595 * rgb[3 * i] + 38470 * rgb[3 * i + 1] + 7471 * rgb[3 * i + 2] + 32768) >> 16;
  return Uint8ClampedArray.from({ length: rgb.length / 3 }, luma);
}

const toPlanes = (rgb, width, height) =>
  [0, 1, 2].map((channel) => ({ width, height, data: rgb.filter((_, i) => i % 3 === channel) }));

/** Resample the axis with `length` values that are `stride` apart to `size` values. */
function resample(values, length, stride, size) {
  if (length === size) return values;
  const outer = values.length / (length * stride), result = new Uint8ClampedArray(outer * size * stride);
  bicubicWeights(length, size).forEach(([first, weights], k) => {
    for (let n = 0; n < outer; n++)
      for (let m = 0; m < stride; m++) {
        let total = ONE / 2;
        weights.forEach((weight, i) => { total += weight * values[(n * length + first + i) * stride + m]; });
        result[(n * size + k) * stride + m] = Math.floor(total / ONE);
      }
  });
  return result;
}

/** For each of `size` values the first of the `length` values that it averages, and their weights. */
function bicubicWeights(length, size) {
  const scale = length / size, width = Math.max(1, scale);
  return Array.from({ length: size }, (_, k) => {
    const center = (k + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - 2 * width + 0.5)), end = Math.min(length, Math.trunc(center + 2 * width + 0.5));
    const weights = Array.from({ length: end - first }, (_, i) => bicubic((first + i - center + 0.5) / width));
    const total = weights.reduce((a, b) => a + b);
    return [first, weights.map((weight) => roundAwayFromZero((weight / total) * ONE))];
  });
}

function bicubic(distance) {
  const x = Math.abs(distance);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

const roundAwayFromZero = (x) => Math.trunc(x + (x < 0 ? -0.5 : 0.5));
