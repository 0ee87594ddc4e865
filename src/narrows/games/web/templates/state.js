// What the page knows, and how it asks the server.

const find = (selector) => document.querySelector(selector);
const game = find("#game");
const setup = { ...game.dataset, rows: Number(game.dataset.rows), columns: Number(game.dataset.columns) };
const drops = game.classList.contains("drops");
const targets = [...document.querySelectorAll(".target")];
const names = targets.map((target) => target.dataset.move);
const token = new URLSearchParams(location.search).get("token") ?? "";
const sides = ["first", "second"];
const still = matchMedia("(prefers-reduced-motion: reduce)");

// All there is to know: the position as the server gave it, and which side the person plays. The server remembers nothing.
let position = null;
let side = setup.side;
let busy = false;
let chosen = Math.floor(targets.length / 2);
// Answers that come after the position has changed are not shown: each change takes the next number.
let turn = 0;
// What is said of each move besides what the board shows, for whoever hears the board instead of seeing it.
const remarks = { network: () => "", solver: () => "" };

game.style.setProperty("--rows", setup.rows);
game.style.setProperty("--columns", setup.columns);

async function ask(question, moves) {
  let response;
  try {
    response = await fetch("/" + question, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Narrows-Token": token },
      body: JSON.stringify({ moves }),
    });
  } catch {
    throw new Error("The server does not answer. Has it been stopped?");
  }
  const answer = await response.json().catch(() => ({ error: "The server’s answer cannot be read." }));
  if (!response.ok) throw new Error(answer.error ?? `The server says ${response.status}.`);
  return answer;
}

// Runs something that asks; what goes wrong is said on the page, and the game goes on from where it was.
async function trying(action, canRepeat = true) {
  find("#trouble").hidden = true;
  try {
    await action();
  } catch (error) {
    const text = String(error.message);
    find("#trouble p").textContent = text.charAt(0).toUpperCase() + text.slice(1);
    find("#again").hidden = !canRepeat;
    find("#again").onclick = () => trying(action, canRepeat);
    find("#trouble").hidden = false;
  }
}
