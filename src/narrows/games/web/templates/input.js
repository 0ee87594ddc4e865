// Keys, clicks, and the address of the page.

function choose(place, focus = true) {
  chosen = place;
  targets.forEach((target, other) => (target.tabIndex = other === place ? 0 : -1));
  if (focus) targets[place].focus();
}

function move(right, down) {
  if (drops && down !== 0) return;
  const width = drops ? targets.length : setup.columns;
  const column = ((chosen % width) + right + width) % width;
  const row = drops ? 0 : (Math.floor(chosen / width) + down + setup.rows) % setup.rows;
  choose(row * width + column);
}

const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const letters = { u: undo, n: begin, s: solve, p: () => find("#show-policy")?.click(), v: () => find("#show-value")?.click() };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const isRadio = event.target instanceof HTMLInputElement && event.target.type === "radio";
  const named = names.findIndex((name) => name.toLowerCase() === event.key.toLowerCase());
  if (event.key in arrows && !isRadio) {
    move(...arrows[event.key]);
  } else if (named >= 0 && !event.repeat) {
    choose(named, document.activeElement?.classList.contains("target"));
    play(names[named]);
  } else if (event.key === "Enter" && event.target === document.body) {
    choose(chosen);
    play(names[chosen]);
  } else if (event.key.toLowerCase() in letters && !event.repeat) {
    letters[event.key.toLowerCase()]();
  } else if (event.key === "Escape") {
    find("#trouble").hidden = true;
  } else {
    return;
  }
  event.preventDefault();
});

targets.forEach((target, place) =>
  target.addEventListener("click", () => {
    choose(place);
    play(names[place]);
  })
);
find("#new").addEventListener("click", begin);
find("#undo").addEventListener("click", undo);
find("#solve")?.addEventListener("click", solve);
find("#dismiss").addEventListener("click", () => (find("#trouble").hidden = true));
for (const box of document.querySelectorAll("#show-policy, #show-value")) {
  box.addEventListener("change", () => {
    if (position === null || busy) return;
    if (find("#show-policy").checked || find("#show-value").checked) advise();
    else forgetAdvice();
    label();
  });
}
for (const input of document.querySelectorAll("input[name=side]")) input.addEventListener("change", () => sit(input.value));
addEventListener("hashchange", open);

// Opens the position that the address holds: #moves=4455&side=second.
function open() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const text = wanted.get("moves") ?? "";
  if (sides.includes(wanted.get("side"))) side = wanted.get("side");
  markSides();
  const moves = text === "" ? [] : /[, ]/.test(text) || names.some((name) => name.length > 1) ? text.split(/[, ]+/) : [...text];
  trying(async () => {
    try {
      await goTo(moves);
    } catch (error) {
      if (position === null) await goTo([]);
      throw error;
    }
  }, false);
}

choose(chosen, false);
open();
