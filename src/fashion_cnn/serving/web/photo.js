// data/photo.py in JavaScript: a photo of a garment in; 28x28 pixels, light on black, out. What the
// numbers are and why is said there; a test holds the two to the same pixels.
const SIDE = 28, EDGE = 112, FRAME = 0.03, BINS = 16, OF_FRAME = 0.9, FLOOR = 1e-3, PULL = 2;
const ROUNDS = 3, SWEEPS = 5, MIDDLE = 1.5, SMALLEST = 0.08, NARROWER = 0.86, DARKEST = 0.3, ALIKE = 12;
const HALF = 0.5 - 1e-9;
const NEIGHBOURS = [[0, 1, 1], [1, 0, 1], [1, 1, Math.SQRT1_2], [1, -1, Math.SQRT1_2]];

// Plane: {height, width, data: Float64Array of height * width}.
const plane = (height, width, data = new Float64Array(height * width)) => ({ height, width, data });
const map = (a, f) => plane(a.height, a.width, Float64Array.from(a.data, f));
const sum = (data) => data.reduce((a, b) => a + b, 0);
const clip = (x, low, high) => Math.min(Math.max(x, low), high);
const round = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x)); // as Python's
const grey = (r, g, b) => 0.299 * r + 0.587 * g + 0.114 * b;

/** What the network sees of RGBA pixels (ImageData, upright), and how it came to that. */
export function prepare(image) {
  const { width, height } = image;
  const scale = Math.min(1, EDGE / Math.max(height, width));
  const size = [Math.max(1, round(height * scale)), Math.max(1, round(width * scale))];
  const channel = (f) => plane(height, width, Float64Array.from({ length: height * width }, (_, i) => f(4 * i)));
  const opacity = shrink(channel((i) => image.data[i + 3] / 255), size);
  const seen = [0, 1, 2].map((c) => shrink(channel((i) => (image.data[i + c] * image.data[i + 3]) / 255), size));
  const [r, g, b] = seen.map((x) => x.data);
  const greys = map(opacity, (_, i) => grey(r[i], g[i], b[i]) / 255);
  const transparent = opacity.data.filter((x) => x < 0.5).length > 0.01 * opacity.data.length;
  const found = { photo: seen, note: "" };
  if ((height === SIDE && width === SIDE) || (!transparent && isReady(seen))) return { ...found, pixels: toPixels(centre(greys)) };
  let likely, mask, bright = greys;
  if (transparent) {
    bright = map(opacity, (x, i) => grey(r[i], g[i], b[i]) / Math.max(x, 1e-6) / 255);
    likely = opacity;
    mask = map(opacity, (x) => +(x > HALF));
  } else {
    const lab = toLab(seen);
    likely = garment(lab, 0);
    mask = mainPart(likely);
    if (sum(mask.data) < SMALLEST * mask.data.length) {
      likely = garment(lab, MIDDLE);
      mask = mainPart(likely);
    }
    found.note = doubt(lab, mask);
  }
  return { ...found, likely, mask, pixels: toPixels(centre(trimmed(bright, mask), NARROWER)) };
}

/** Means over equal areas. */
export function shrink(a, [height, width]) {
  const rows = areas(a.height, height), columns = areas(a.width, width);
  const half = plane(height, a.width), all = plane(height, width);
  rows.forEach((weights, y) => {
    for (const [from, weight] of weights)
      for (let x = 0; x < a.width; x++) half.data[y * a.width + x] += weight * a.data[from * a.width + x];
  });
  for (let y = 0; y < height; y++)
    columns.forEach((weights, x) => {
      for (const [from, weight] of weights) all.data[y * width + x] += weight * half.data[y * a.width + from];
    });
  return all;
}

function areas(n, m) {
  return Array.from({ length: m }, (_, k) => {
    const [start, end] = [k * (n / m), (k + 1) * (n / m)], weights = [];
    for (let at = Math.floor(start); at < Math.min(n, Math.ceil(end)); at++) {
      const shared = Math.min(end, at + 1) - Math.max(start, at);
      if (shared > 0) weights.push([at, shared * (m / n)]);
    }
    return weights;
  });
}

function toLab([red, green, blue]) {
  const linear = (x) => (x / 255 <= 0.04045 ? x / 255 / 12.92 : ((x / 255 + 0.055) / 1.055) ** 2.4);
  const bent = (t) => (t > 0.008856 ? Math.cbrt(t) : 7.787 * t + 16 / 116);
  const lab = [0, 1, 2].map(() => plane(red.height, red.width));
  for (let i = 0; i < red.data.length; i++) {
    const [r, g, b] = [red, green, blue].map((x) => linear(x.data[i]));
    const x = bent((0.4124564 * r + 0.3575761 * g + 0.1804375 * b) / 0.95047);
    const y = bent(0.2126729 * r + 0.7151522 * g + 0.072175 * b);
    const z = bent((0.0193339 * r + 0.119192 * g + 0.9503041 * b) / 1.08883);
    [116 * y - 16, 500 * (x - y), 200 * (y - z)].forEach((value, c) => { lab[c].data[i] = value; });
  }
  return lab;
}

function garment(lab, middle) {
  const { height, width, data: { length } } = lab[0];
  const frame = frameOf(height, width);
  if (frame.every(Boolean)) return map(lab[0], () => 1);
  const codes = Int32Array.from({ length }, (_, i) => {
    const at = [[0, 100], [-64, 128], [-64, 128]].map(([low, span], c) => clip(Math.floor((lab[c].data[i] - low) * (BINS / span)), 0, BINS - 1));
    return (at[0] * BINS + at[1]) * BINS + at[2];
  });
  const inFrame = shares(codes, Float64Array.from(frame)), inside = shares(codes, Float64Array.from(frame, (x) => 1 - x));
  let likely = map(lab[0], (_, i) => (frame[i] ? 0 : clip(1 - (OF_FRAME * inFrame[i]) / Math.max(inside[i], 1e-12), 0, 1)));
  const links = linksOf(lab);
  for (let round = 0; round < ROUNDS; round++) {
    const of = shares(codes, likely.data), not = shares(codes, likely.data.map((x) => 1 - x));
    const evidence = map(likely, (_, i) => {
      if (frame[i]) return -6;
      const y = Math.abs(((Math.floor(i / width) + 0.5) / height) * 2 - 1), x = Math.abs((((i % width) + 0.5) / width) * 2 - 1);
      return Math.log((of[i] + FLOOR) / (not[i] + FLOOR)) + middle * 2 * (0.75 - Math.max(y, x));
    });
    for (let sweep = 0; sweep < SWEEPS; sweep++) {
      const pulled = pull(likely, links);
      likely = map(likely, (_, i) => 1 / (1 + Math.exp(-evidence.data[i] - PULL * pulled[i])));
    }
  }
  return likely;
}

function frameOf(height, width) {
  const wide = Math.max(1, round(FRAME * Math.max(height, width)));
  return Array.from({ length: height * width }, (_, i) => {
    const y = Math.floor(i / width), x = i % width;
    return +(y < wide || x < wide || y >= height - wide || x >= width - wide);
  });
}

function shares(codes, weights) {
  let counts = new Float64Array(BINS ** 3);
  codes.forEach((code, i) => { counts[code] += weights[i]; });
  for (const step of [BINS * BINS, BINS, 1, BINS * BINS, BINS, 1])
    counts = counts.map((count, i) => {
      const at = Math.floor(i / step) % BINS;
      return ((at > 0 ? counts[i - step] : count) + 2 * count + (at < BINS - 1 ? counts[i + step] : count)) / 4;
    });
  const all = Math.max(sum(counts), 1e-12);
  return Float64Array.from(codes, (code) => counts[code] / all);
}

function* pairs(height, width, dy, dx) {
  for (let y = 0; y < height - dy; y++)
    for (let x = Math.max(0, -dx); x < width - Math.max(0, dx); x++) yield [y * width + x, (y + dy) * width + x + dx];
}

function linksOf(lab) {
  const { height, width } = lab[0];
  const tied = NEIGHBOURS.map(([dy, dx, near]) =>
    [...pairs(height, width, dy, dx)].map(([i, j]) => [i, j, near, lab.reduce((total, c) => total + (c.data[i] - c.data[j]) ** 2, 0)]),
  ).flat();
  const usual = (2 * tied.reduce((total, [, , , apart]) => total + apart, 0)) / tied.length + 1e-6;
  return tied.map(([i, j, near, apart]) => [i, j, near * Math.exp(-apart / usual)]);
}

function pull(likely, links) {
  const pulled = new Float64Array(likely.data.length);
  for (const [i, j, strength] of links) {
    pulled[i] += strength * (2 * likely.data[j] - 1);
    pulled[j] += strength * (2 * likely.data[i] - 1);
  }
  return pulled;
}

function mainPart(likely) {
  const { height, width } = likely;
  const inside = Array.from(likely.data, (x) => x > 0.5);
  const weight = inside.map((is, i) => {
    const y = ((Math.floor(i / width) + 0.5) / height) * 2 - 1, x = (((i % width) + 0.5) / width) * 2 - 1;
    return is ? Math.exp(-(y ** 2) - x ** 2) : 0;
  });
  const parts = partsOf(inside, height, width).map((part) => [part, part.reduce((total, i) => total + weight[i], 0)]);
  const most = Math.max(...parts.map(([, w]) => w), 0);
  const mask = plane(height, width);
  for (const [part, w] of parts) if (w >= 0.3 * most) part.forEach((i) => { mask.data[i] = 1; });
  const size = sum(mask.data);
  for (const hole of partsOf(Array.from(mask.data, (x) => !x), height, width)) {
    const edge = hole.some((i) => i < width || i >= width * (height - 1) || i % width === 0 || i % width === width - 1);
    if (!edge && hole.length <= 0.05 * size) hole.forEach((i) => { mask.data[i] = 1; });
  }
  return mask;
}

function partsOf(inside, height, width) {
  const left = inside.slice(), parts = [];
  for (let start = 0; start < left.length; start++) {
    if (!left[start]) continue;
    const part = [start];
    left[start] = false;
    for (let k = 0; k < part.length; k++) {
      const i = part[k], x = i % width;
      for (const j of [i - width, i + width, x > 0 ? i - 1 : -1, x < width - 1 ? i + 1 : -1])
        if (left[j]) { left[j] = false; part.push(j); }
    }
    parts.push(part);
  }
  return parts;
}

function isReady([red, green, blue]) {
  const { height, width } = red, frame = frameOf(height, width);
  const trios = Array.from(red.data, (r, i) => [r, green.data[i], blue.data[i]]);
  const around = trios.filter((_, i) => frame[i]).flat().sort((a, b) => a - b);
  const half = around.length >> 1, median = around.length % 2 ? around[half] : (around[half - 1] + around[half]) / 2;
  return trios.every((t) => Math.max(...t) - Math.min(...t) <= 8) && median <= 8 && trios.some((t) => Math.max(...t) > 40);
}

function trimmed(bright, mask) {
  const { height, width } = mask, whole = !mask.data.some(Boolean);
  let [top, bottom, left, right] = [height, -1, width, -1];
  mask.data.forEach((is, i) => {
    if (!is && !whole) return;
    const y = Math.floor(i / width), x = i % width;
    [top, bottom, left, right] = [Math.min(top, y), Math.max(bottom, y), Math.min(left, x), Math.max(right, x)];
  });
  const cut = plane(bottom - top + 1, right - left + 1);
  return map(cut, (_, k) => {
    const i = (top + Math.floor(k / cut.width)) * width + left + (k % cut.width);
    return whole || mask.data[i] ? 1 - (1 - DARKEST) * bright.data[i] : 0;
  });
}

function centre(a, narrower = 1) {
  const scale = SIDE / Math.max(a.height, a.width);
  const [height, full] = [a.height, a.width].map((n) => Math.max(1, round(n * scale)));
  const width = Math.max(1, round(full * narrower)), small = shrink(shrink(a, [height, full]), [height, width]);
  const top = (SIDE - height) >> 1, left = (SIDE - width) >> 1, centred = plane(SIDE, SIDE);
  small.data.forEach((value, i) => { centred.data[(top + Math.floor(i / width)) * SIDE + left + (i % width)] = value; });
  return centred;
}

function toPixels(a) {
  return Uint8Array.from(a.data, (x) => round(255 * clip(x, 0, 1)));
}

function doubt(lab, mask) {
  const count = sum(mask.data), share = count / mask.data.length;
  if (share < SMALLEST || share > 0.9) return "no garment found; try a plain background, and the whole garment in the picture";
  const apart = lab.map(({ data }) => {
    let [inside, outside] = [0, 0];
    data.forEach((x, i) => { if (mask.data[i]) inside += x; else outside += x; });
    return inside / count - outside / (data.length - count);
  });
  return Math.hypot(...apart) < ALIKE ? "garment and background look alike; try a background of another colour" : "";
}
