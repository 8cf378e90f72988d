// Answers from the server that this page came from.
let token = "";

export class NeedsToken extends Error {}

export function useToken(given) {
  token = given;
}

async function fetched(path, options = {}, tries = 3) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch {
    throw new Error("The server does not answer; is it still running?");
  }
  const told = await answer.json().catch(() => ({}));
  if (answer.ok) return told;
  const wait = Number(answer.headers.get("Retry-After"));
  if (wait && tries > 1) {
    await new Promise((done) => setTimeout(done, 1000 * wait));
    return fetched(path, options, tries - 1);
  }
  const Kind = answer.status === 401 ? NeedsToken : Error;
  throw new Kind(wait ? "There is too much to do; try again later." : (told.error ?? `The server said ${answer.status}.`));
}

const asUrl = (png) => `data:image/png;base64,${png}`;

export async function about() {
  const card = await fetched("model.json");
  return { ...card, kept: "Pictures are looked at on the server and forgotten." };
}

export async function ask(picture, explain) {
  const told = await fetched(`predict?top=10&explain=${explain}`, { method: "POST", body: picture });
  const steps = (told.steps ?? []).map(({ caption, png }) => ({ caption, url: asUrl(png) }));
  return { ...told, seen: asUrl(told.seen), steps };
}
