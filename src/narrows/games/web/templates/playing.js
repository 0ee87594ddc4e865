// What a person does, and what comes of it.

const isMine = () => position !== null && !busy && position.turn === side;

// Shows the game after some moves, and lets the opponent move where it is their turn.
async function goTo(moves) {
  const mine = ++turn;
  busy = true;
  try {
    const answer = await ask("position", moves);
    if (mine !== turn) return;
    show(answer);
    await opponentMoves(mine);
  } finally {
    if (mine === turn) settle();
  }
}

async function opponentMoves(mine) {
  if (position.is_over || position.turn === side) return;
  say(`${setup.opponent} is thinking …`);
  const [answer] = await Promise.all([ask("reply", position.moves), pause()]);
  if (mine === turn) show(answer);
}

// A stone should have landed before the next one falls.
const pause = () => new Promise((done) => setTimeout(done, still.matches || position.moves.length === 0 ? 0 : 550));

function settle() {
  busy = false;
  if (position === null) return;
  report();
  advise();
}

function play(name) {
  if (!isMine()) return;
  // An illegal move is the server's to explain: the rules are in one place.
  const moves = [...position.moves, name];
  trying(() => goTo(moves), false);
}

function undo() {
  if (position === null) return;
  const moves = position.moves;
  // The last time the person was to move, before now: the first player's turns come after an even number of moves.
  let length = moves.length - 1;
  while (length >= 0 && sides[length % 2] !== side) length -= 1;
  if (length >= 0) trying(() => goTo(moves.slice(0, length)));
}

const begin = () => trying(() => goTo([]));

// Changing sides in the middle of a game swaps the seats: nothing is lost by a wrong click.
function sit(which) {
  side = which;
  markSides();
  const moves = position?.moves ?? [];
  trying(() => goTo(moves));
}

async function advise() {
  const isWanted = () => ["#show-policy", "#show-value"].some((box) => find(box)?.checked);
  if (!isWanted() || position.is_over) return;
  const mine = turn;
  await trying(async () => {
    const advice = await ask("advice", position.moves);
    if (mine === turn && isWanted()) showAdvice(advice, find("#show-policy").checked, find("#show-value").checked);
  });
}

async function solve() {
  const button = find("#solve");
  if (!button || button.disabled || position === null || position.is_over) return;
  const mine = turn;
  button.disabled = true;
  solved("The solver is at work …");
  await trying(async () => {
    try {
      const { verdicts } = await ask("verdicts", position.moves);
      if (mine === turn) showVerdicts(verdicts);
    } catch (error) {
      if (mine === turn) solved("");
      throw error;
    }
  });
  button.disabled = position.is_over;
}
