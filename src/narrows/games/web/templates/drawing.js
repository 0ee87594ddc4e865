// The position, advice and verdicts on the page.

const svg = (tag, attributes) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
};

function drawStone(where, mark) {
  where.setAttribute("viewBox", "0 0 100 100");
  const parts = [];
  if (mark !== "." && drops) {
    parts.push(svg("circle", { class: "disc", cx: 50, cy: 50, r: 48 }));
    parts.push(svg("circle", { class: "inner", cx: 50, cy: 50, r: mark === "x" ? 34 : 23 }));
  } else if (mark === "x") {
    parts.push(svg("path", { class: "stroke", d: "M12 12 L88 88 M88 12 L12 88" }));
  } else if (mark === "o") {
    parts.push(svg("circle", { class: "stroke", cx: 50, cy: 50, r: 40 }));
  }
  if (parts.length && drops) parts.push(svg("circle", { class: "ring", cx: 50, cy: 50, r: 44 }));
  where.replaceChildren(...parts);
}

const cellAt = (row, column) =>
  drops ? targets[column].children[row] : targets[row * setup.columns + column].children[0];
const isIn = (cells, row, column) => cells.some((cell) => cell[0] === row && cell[1] === column);

function show(next) {
  const isStep = position !== null && next.moves.length === position.moves.length + 1;
  position = next;
  next.rows.forEach((cells, row) =>
    [...cells].forEach((mark, column) => {
      const cell = cellAt(row, column);
      const isLast = next.last !== null && next.last[0] === row && next.last[1] === column;
      if (cell.dataset.mark !== mark) drawStone(cell.firstElementChild, mark);
      cell.dataset.mark = mark;
      cell.className = "cell";
      if (mark !== ".") cell.classList.add(mark);
      cell.classList.toggle("last", isLast);
      cell.classList.toggle("new", isLast && isStep);
      cell.classList.toggle("wins", isIn(next.winning, row, column));
      cell.style.setProperty("--fall", row + 1);
    })
  );
  find("#board").classList.toggle("decided", next.winning.length > 0);
  forget();
  label();
  find("#moves").replaceChildren(
    ...next.moves.map((name, number) => {
      const item = document.createElement("li");
      item.textContent = name;
      item.setAttribute("aria-label", `${who(sides[number % 2])}: ${name}`);
      return item;
    })
  );
  find("#none").hidden = next.moves.length > 0;
  const separator = names.every((name) => name.length === 1) ? "" : ",";
  history.replaceState(null, "", `#moves=${next.moves.join(separator)}&side=${side}`);
  report();
}

// Advice and verdicts are about one position.
function forgetAdvice() {
  for (const share of document.querySelectorAll(".share")) share.hidden = true;
  if (find("#value")) find("#value").hidden = true;
  remarks.network = () => "";
}

function forget() {
  forgetAdvice();
  for (const chip of document.querySelectorAll(".verdict")) chip.hidden = true;
  remarks.solver = () => "";
  solved("");
}

const who = (which) => (which === side ? "you" : setup.opponent);

function label() {
  targets.forEach((target, place) => {
    const name = names[place];
    const held = drops
      ? position.rows.map((cells) => cells[place]).filter((mark) => mark !== ".").reverse()
      : [position.rows[Math.floor(place / setup.columns)][place % setup.columns]].filter((mark) => mark !== ".");
    const owners = held.map((mark) => who(mark === "x" ? "first" : "second"));
    const where = drops ? `Column ${name}` : `Cell ${name}, row ${Math.floor(place / setup.columns) + 1}, column ${(place % setup.columns) + 1}`;
    const what = owners.length === 0 ? "empty" : drops ? `from the bottom: ${owners.join(", ")}` : owners[0];
    const full = drops && held.length === setup.rows ? "; full" : "";
    target.setAttribute("aria-label", `${where}; ${what}${full}${remarks.network(name)}${remarks.solver(name)}`);
    target.setAttribute("aria-disabled", String(!position.legal.includes(name)));
  });
}

function report() {
  const status = find("#status");
  const last = position.moves.at(-1);
  const moved = last === undefined ? "" : sides[(position.moves.length - 1) % 2] === side ? "" : `${setup.opponent} plays ${last}. `;
  status.className = "";
  if (position.is_over) {
    const won = position.winner === side;
    status.className = position.winner === null ? "" : won ? "won" : "lost";
    say(position.winner === null ? `${moved}A draw: the board is full.` : won ? `You win with ${setup.goal} in a row.` : `${moved}${setup.opponent} wins.`);
  } else if (position.turn === side) {
    say(`${moved}Your move.`);
  } else if (!busy) {
    say(`${setup.opponent} is to move.`);
  }
  find("#board").classList.toggle("mine", position.turn === side);
  find("#undo").disabled = position.moves.length <= sides.indexOf(side);
  if (find("#solve")) find("#solve").disabled = position.is_over;
}

function say(text) {
  if (find("#status").textContent !== text) find("#status").textContent = text;
}

function solved(text) {
  const line = find("#solved");
  if (!line) return;
  line.textContent = text;
  line.hidden = text === "";
}

function showAdvice(advice, policy, value) {
  targets.forEach((target, place) => {
    const share = target.parentElement.querySelector(".share");
    const probability = advice.policy[names[place]];
    share.hidden = !policy || (probability === undefined && !drops);
    share.style.setProperty("--share", probability ?? 0);
    share.querySelector(".bar").hidden = probability === undefined;
    share.querySelector(".percent").textContent = probability === undefined ? "" : `${Math.round(100 * probability)}%`;
  });
  remarks.network = (name) => (policy && name in advice.policy ? `; network ${Math.round(100 * advice.policy[name])} percent` : "");
  label();
  const box = find("#value");
  box.hidden = !value;
  if (!value) return;
  const known = advice.value !== null;
  for (const part of box.querySelectorAll(".scale, .ends")) part.hidden = !known;
  // The value is that of the player to move; on the page everything is seen from the person's side.
  const own = known ? (position.turn === side ? advice.value : -advice.value) : 0;
  box.style.setProperty("--value", own);
  const size = Math.abs(own).toFixed(2);
  const written = (size === "0.00" ? "" : own < 0 ? "−" : "+") + size;
  box.querySelector("p").textContent = known ? `The network expects ${written} for you, between −1 (lost) and +1 (won).` : "This network gives no value.";
}

function showVerdicts(verdicts) {
  const byName = new Map(verdicts.map((verdict) => [verdict.move, verdict]));
  targets.forEach((target, place) => {
    const chip = target.parentElement.querySelector(".verdict");
    const verdict = byName.get(names[place]);
    chip.hidden = verdict === undefined && !drops;
    chip.textContent = verdict?.words ?? "\u00a0";
    const kind = verdict === undefined || verdict.score === 0 ? "" : verdict.score > 0 ? "win" : "loss";
    chip.className = `verdict ${kind} ${verdict?.is_best ? "best" : ""}`;
  });
  remarks.solver = (name) => (byName.has(name) ? `; solver: ${byName.get(name).words}` : "");
  label();
  const best = verdicts.filter((verdict) => verdict.is_best);
  solved(`Best in perfect play: ${best.map((verdict) => verdict.move).join(", ")} (${best[0].words}). “In 3” is the winner’s third stone from now.`);
}

function markSides() {
  for (const input of document.querySelectorAll("input[name=side]")) input.checked = input.value === side;
  for (const mark of document.querySelectorAll(".mark")) {
    const stone = (mark.dataset.of === "you") === (side === "first") ? "x" : "o";
    mark.setAttribute("class", `mark ${stone}`);
    drawStone(mark, stone);
  }
}
