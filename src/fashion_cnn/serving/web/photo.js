// data/photo.py and data/segmentation.py in JavaScript: a photo of a garment goes in; 28x28 pixels,
// light on black, come out. The Python files explain the numbers; a test compares the pixels of both.
const SIDE = 28, MAX_EDGE = 112, LIGHT_BORDER = 100, WIDTH_SCALE = 0.86, MIN_BRIGHTNESS = 0.3, OPACITY_THRESHOLD = 0.5 - 1e-9;
const BORDER = 0.03, BACKGROUND_PRIOR = 0.9, BORDER_LOGIT = -6, LAB_BINS = 16, HISTOGRAM_FLOOR = 1e-3;
const PAIRWISE_WEIGHT = 2, HISTOGRAM_UPDATES = 3, MEAN_FIELD_STEPS = 5, CENTER_PRIOR = 1.5;
const MIN_AREA = 0.08, MAX_AREA = 0.9, MIN_CONTRAST = 12, MIN_PIECE = 4, MAX_PIECES = 5;
const NEIGHBORS = [[0, 1, 1], [1, 0, 1], [1, 1, Math.SQRT1_2], [1, -1, Math.SQRT1_2]]; // dy, dx, weight

// A plane is one channel: {height, width, data: Float64Array of height * width}.
const plane = (height, width, data = new Float64Array(height * width)) => ({ height, width, data });
const map = (a, f) => plane(a.height, a.width, Float64Array.from(a.data, f));
const sum = (data) => data.reduce((a, b) => a + b, 0);
const clip = (x, low, high) => Math.min(Math.max(x, low), high);
const round = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x)); // half to even, as in Python
const luma = (r, g, b) => 0.299 * r + 0.587 * g + 0.114 * b;

/** PreparedImage of RGBA pixels (ImageData, upright): pixels, photo, garmentProbability, mask and note. */
export function prepare(image) {
  const { width, height } = image;
  const scale = Math.min(1, MAX_EDGE / Math.max(height, width));
  const size = [Math.max(1, round(height * scale)), Math.max(1, round(width * scale))];
  const channel = (f) => plane(height, width, Float64Array.from({ length: height * width }, (_, i) => f(4 * i)));
  const opacity = shrink(channel((i) => image.data[i + 3] / 255), size);
  const photo = [0, 1, 2].map((c) => shrink(channel((i) => (image.data[i + c] * image.data[i + 3]) / 255), size));
  const [r, g, b] = photo.map((x) => x.data);
  let gray = map(opacity, (_, i) => luma(r[i], g[i], b[i]) / 255);
  const isTransparent = opacity.data.filter((x) => x < 0.5).length > 0.01 * opacity.data.length;
  if (!isTransparent && isPrepared(photo, height === SIDE && width === SIDE))
    return { photo, note: "", pixels: toUint8(center(gray)) };
  let garmentProbability, mask, note = "";
  if (isTransparent) {
    gray = map(opacity, (x, i) => luma(r[i], g[i], b[i]) / Math.max(x, 1e-6) / 255);
    garmentProbability = opacity;
    mask = map(opacity, (x) => +(x > OPACITY_THRESHOLD));
  } else {
    [garmentProbability, mask, note] = segmentGarment(photo);
  }
  return { photo, note, garmentProbability, mask, pixels: toUint8(center(invertAndCrop(gray, mask), WIDTH_SCALE)) };
}

/** Downsample by area averaging. */
export function shrink(a, [height, width]) {
  const rows = areaWeights(a.height, height), columns = areaWeights(a.width, width);
  const shortened = plane(height, a.width), result = plane(height, width);
  rows.forEach((weights, y) => {
    for (const [from, weight] of weights)
      for (let x = 0; x < a.width; x++) shortened.data[y * a.width + x] += weight * a.data[from * a.width + x];
  });
  for (let y = 0; y < height; y++)
    columns.forEach((weights, x) => {
      for (const [from, weight] of weights) result.data[y * width + x] += weight * shortened.data[y * a.width + from];
    });
  return result;
}

/** For each of m output pixels the [index, weight] of the n input pixels that it averages. */
function areaWeights(n, m) {
  return Array.from({ length: m }, (_, k) => {
    const [start, end] = [k * (n / m), (k + 1) * (n / m)], weights = [];
    for (let i = Math.floor(start); i < Math.min(n, Math.ceil(end)); i++) {
      const overlap = Math.min(end, i + 1) - Math.max(start, i);
      if (overlap > 0) weights.push([i, overlap * (m / n)]);
    }
    return weights;
  });
}

function isPrepared([red, green, blue], is28x28) {
  const { height, width } = red, border = borderMask(height, width);
  const pixels = Array.from(red.data, (r, i) => [r, green.data[i], blue.data[i]]);
  const values = pixels.filter((_, i) => border[i]).flat().sort((a, b) => a - b);
  const half = values.length >> 1, median = values.length % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
  const isGrayOnBlack = median <= 8 && pixels.every((p) => Math.max(...p) - Math.min(...p) <= 8);
  const hasContrast = [red, green, blue].some(({ data }) => Math.max(...data) - Math.min(...data) > 40);
  return hasContrast && (isGrayOnBlack || (is28x28 && median < LIGHT_BORDER));
}

function invertAndCrop(gray, mask) {
  const { height, width } = mask, isEmpty = !mask.data.some(Boolean);
  let [top, bottom, left, right] = [height, -1, width, -1];
  mask.data.forEach((isGarment, i) => {
    if (!isGarment && !isEmpty) return;
    const y = Math.floor(i / width), x = i % width;
    [top, bottom, left, right] = [Math.min(top, y), Math.max(bottom, y), Math.min(left, x), Math.max(right, x)];
  });
  const cropped = plane(bottom - top + 1, right - left + 1);
  return map(cropped, (_, k) => {
    const i = (top + Math.floor(k / cropped.width)) * width + left + (k % cropped.width);
    return isEmpty || mask.data[i] ? 1 - (1 - MIN_BRIGHTNESS) * gray.data[i] : 0;
  });
}

function center(a, widthScale = 1) {
  const scale = SIDE / Math.max(a.height, a.width);
  const [height, fullWidth] = [a.height, a.width].map((n) => Math.max(1, round(n * scale)));
  const width = Math.max(1, round(fullWidth * widthScale)), small = shrink(shrink(a, [height, fullWidth]), [height, width]);
  const top = (SIDE - height) >> 1, left = (SIDE - width) >> 1, centered = plane(SIDE, SIDE);
  small.data.forEach((value, i) => { centered.data[(top + Math.floor(i / width)) * SIDE + left + (i % width)] = value; });
  return centered;
}

function toUint8(a) {
  return Uint8Array.from(a.data, (x) => round(255 * clip(x, 0, 1)));
}

function segmentGarment(rgb) {
  const lab = toLab(rgb);
  let probability = foregroundProbability(lab, 0), [mask, pieces] = mainComponents(probability);
  if (sum(mask.data) < MIN_AREA * mask.data.length) {
    probability = foregroundProbability(lab, CENTER_PRIOR);
    [mask, pieces] = mainComponents(probability);
  }
  return [probability, mask, segmentationNote(lab, mask, pieces)];
}

function toLab([red, green, blue]) {
  const linear = (x) => (x / 255 <= 0.04045 ? x / 255 / 12.92 : ((x / 255 + 0.055) / 1.055) ** 2.4);
  const cubeRoot = (t) => (t > 0.008856 ? Math.cbrt(t) : 7.787 * t + 16 / 116);
  const lab = [0, 1, 2].map(() => plane(red.height, red.width));
  for (let i = 0; i < red.data.length; i++) {
    const [r, g, b] = [red, green, blue].map((x) => linear(x.data[i]));
    const x = cubeRoot((0.4124564 * r + 0.3575761 * g + 0.1804375 * b) / 0.95047);
    const y = cubeRoot(0.2126729 * r + 0.7151522 * g + 0.072175 * b);
    const z = cubeRoot((0.0193339 * r + 0.119192 * g + 0.9503041 * b) / 1.08883);
    [116 * y - 16, 500 * (x - y), 200 * (y - z)].forEach((value, c) => { lab[c].data[i] = value; });
  }
  return lab;
}

function foregroundProbability(lab, centerPrior) {
  const { height, width, data: { length } } = lab[0];
  const border = borderMask(height, width);
  if (border.every(Boolean)) return map(lab[0], () => 1);
  const bins = Int32Array.from({ length }, (_, i) => {
    const [l, a, b] = [[0, 100], [-64, 128], [-64, 128]].map(([min, range], c) => clip(Math.floor((lab[c].data[i] - min) * (LAB_BINS / range)), 0, LAB_BINS - 1));
    return (l * LAB_BINS + a) * LAB_BINS + b;
  });
  const inBorder = colorFrequencies(bins, Float64Array.from(border)), inside = colorFrequencies(bins, Float64Array.from(border, (x) => 1 - x));
  let probability = map(lab[0], (_, i) => (border[i] ? 0 : clip(1 - (BACKGROUND_PRIOR * inBorder[i]) / Math.max(inside[i], 1e-12), 0, 1)));
  const pairwise = pairwiseWeights(lab);
  for (let update = 0; update < HISTOGRAM_UPDATES; update++) {
    const foreground = colorFrequencies(bins, probability.data), background = colorFrequencies(bins, probability.data.map((x) => 1 - x));
    const unary = map(probability, (_, i) => {
      if (border[i]) return BORDER_LOGIT;
      const y = Math.abs(((Math.floor(i / width) + 0.5) / height) * 2 - 1), x = Math.abs((((i % width) + 0.5) / width) * 2 - 1);
      return Math.log((foreground[i] + HISTOGRAM_FLOOR) / (background[i] + HISTOGRAM_FLOOR)) + centerPrior * 2 * (0.75 - Math.max(y, x));
    });
    for (let step = 0; step < MEAN_FIELD_STEPS; step++) {
      const message = sumNeighbors(probability, pairwise);
      probability = map(probability, (_, i) => 1 / (1 + Math.exp(-unary.data[i] - PAIRWISE_WEIGHT * message[i])));
    }
  }
  return probability;
}

function borderMask(height, width) {
  const thickness = Math.max(1, round(BORDER * Math.max(height, width)));
  return Array.from({ length: height * width }, (_, i) => {
    const y = Math.floor(i / width), x = i % width;
    return +(y < thickness || x < thickness || y >= height - thickness || x >= width - thickness);
  });
}

function colorFrequencies(bins, weights) {
  let histogram = new Float64Array(LAB_BINS ** 3);
  bins.forEach((bin, i) => { histogram[bin] += weights[i]; });
  for (const stride of [LAB_BINS * LAB_BINS, LAB_BINS, 1, LAB_BINS * LAB_BINS, LAB_BINS, 1])
    histogram = histogram.map((count, i) => {
      const k = Math.floor(i / stride) % LAB_BINS;
      return ((k > 0 ? histogram[i - stride] : count) + 2 * count + (k < LAB_BINS - 1 ? histogram[i + stride] : count)) / 4;
    });
  const total = Math.max(sum(histogram), 1e-12);
  return Float64Array.from(bins, (bin) => histogram[bin] / total);
}

function* neighborPairs(height, width, dy, dx) {
  for (let y = 0; y < height - dy; y++)
    for (let x = Math.max(0, -dx); x < width - Math.max(0, dx); x++) yield [y * width + x, (y + dy) * width + x + dx];
}

/** [pixel, neighbor, weight] of each pair of neighbors. */
function pairwiseWeights(lab) {
  const { height, width } = lab[0];
  const pairs = NEIGHBORS.map(([dy, dx, weight]) =>
    [...neighborPairs(height, width, dy, dx)].map(([i, j]) => [i, j, weight, lab.reduce((total, c) => total + (c.data[i] - c.data[j]) ** 2, 0)]),
  ).flat();
  const scale = (2 * pairs.reduce((total, [, , , distance]) => total + distance, 0)) / pairs.length + 1e-6;
  return pairs.map(([i, j, weight, distance]) => [i, j, weight * Math.exp(-distance / scale)]);
}

function sumNeighbors(probability, pairwise) {
  const total = new Float64Array(probability.data.length);
  for (const [i, j, weight] of pairwise) {
    total[i] += weight * (2 * probability.data[j] - 1);
    total[j] += weight * (2 * probability.data[i] - 1);
  }
  return total;
}

function mainComponents(probability) {
  const { height, width } = probability;
  const inside = Array.from(probability.data, (x) => x > 0.5);
  const weights = inside.map((isGarment, i) => {
    const y = ((Math.floor(i / width) + 0.5) / height) * 2 - 1, x = (((i % width) + 0.5) / width) * 2 - 1;
    return isGarment ? Math.exp(-(y ** 2) - x ** 2) : 0;
  });
  const components = connectedComponents(inside, height, width).map((pixels) => [pixels, pixels.reduce((total, i) => total + weights[i], 0)]);
  const largest = Math.max(...components.map(([, area]) => area), 0);
  const mask = plane(height, width);
  for (const [pixels, area] of components) if (area >= 0.3 * largest) pixels.forEach((i) => { mask.data[i] = 1; });
  const size = sum(mask.data);
  for (const hole of connectedComponents(Array.from(mask.data, (x) => !x), height, width)) {
    const isOpen = hole.some((i) => i < width || i >= width * (height - 1) || i % width === 0 || i % width === width - 1);
    if (!isOpen && hole.length <= 0.05 * size) hole.forEach((i) => { mask.data[i] = 1; });
  }
  return [mask, components.filter(([pixels]) => pixels.length >= MIN_PIECE).length];
}

function connectedComponents(inside, height, width) {
  const unvisited = inside.slice(), components = [];
  for (let start = 0; start < unvisited.length; start++) {
    if (!unvisited[start]) continue;
    const pixels = [start];
    unvisited[start] = false;
    for (let k = 0; k < pixels.length; k++) {
      const i = pixels[k], x = i % width;
      for (const j of [i - width, i + width, x > 0 ? i - 1 : -1, x < width - 1 ? i + 1 : -1])
        if (unvisited[j]) { unvisited[j] = false; pixels.push(j); }
    }
    components.push(pixels);
  }
  return components;
}

function segmentationNote(lab, mask, pieces) {
  const count = sum(mask.data), area = count / mask.data.length;
  if (area < MIN_AREA || area > MAX_AREA) return "no garment found; try a plain background, and the whole garment in the picture";
  const differences = lab.map(({ data }) => {
    let [inside, outside] = [0, 0];
    data.forEach((x, i) => { if (mask.data[i]) inside += x; else outside += x; });
    return inside / count - outside / (data.length - count);
  });
  if (Math.hypot(...differences) < MIN_CONTRAST) return "garment and background look alike; try a background of another color";
  return pieces > MAX_PIECES ? `the cut-out is in ${pieces} pieces; try a plain background of another color` : "";
}
