// Predictions by the server that this page comes from.
export const MAX_BYTES = 16 * 2 ** 20; // of a file
let token = "";

export class NeedsToken extends Error {}

export function useToken(value) {
  token = value;
}

async function fetchJson(path, options = {}, attempts = 3) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Error("The server does not respond. Is it still running?");
  }
  const content = await response.json().catch(() => ({}));
  if (response.ok) return content;
  const seconds = Number(response.headers.get("Retry-After"));
  if (seconds && attempts > 1) {
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
    return fetchJson(path, options, attempts - 1);
  }
  const ErrorClass = response.status === 401 ? NeedsToken : Error;
  const message = content.error ?? `The server responded with status ${response.status}.`;
  throw new ErrorClass(seconds ? "The server is busy. Please try again later." : message);
}

const toUrl = (png) => `data:image/png;base64,${png}`;

/** The model's card, and a sentence on privacy. */
export async function about() {
  const card = await fetchJson("model.json");
  return { ...card, privacy: "Pictures are sent to the server, which does not keep them." };
}

/** The prediction on a picture; with `explain` also its processing steps. */
export async function ask(picture, explain) {
  const result = await fetchJson(`predict?top=10&explain=${explain}`, { method: "POST", body: picture });
  const steps = (result.steps ?? []).map(({ caption, png }) => ({ caption, url: toUrl(png) }));
  return { ...result, seen: toUrl(result.seen), steps };
}
