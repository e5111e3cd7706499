const $ = id => document.getElementById(id);
const data = JSON.parse($('payload').textContent), count = data.pairs.length;
const place = 'jaxgen-comparison-' + data.id, z = +$('payload').dataset.z;

let answers = [];
try {
  const kept = JSON.parse(localStorage.getItem(place));
  if (Array.isArray(kept) && kept.length <= count && kept.every(a => a === 'left' || a === 'right')) answers = kept;
} catch (error) { /* no storage for this file: answers last as long as the window */ }

function keep() {
  try { localStorage.setItem(place, JSON.stringify(answers)); } catch (error) { /* see above */ }
}

function revealed(hidden) {  // xorshift32 of the seed, as comparison.py has it
  let state = Number((BigInt(data.seed) * 2654435761n + 0x9E3779B9n) & 0xFFFFFFFFn) || 1;
  return Uint8Array.from(atob(hidden), letter => {
    state ^= state << 13; state ^= state >>> 17; state ^= state << 5;
    return letter.charCodeAt(0) ^ (state >>> 24);
  });
}

function interval(successes, n) {  // Wilson's
  const p = successes / n, square = z * z / n;
  const half = z * Math.sqrt(p * (1 - p) / n + square / n / 4);
  return [p + square / 2 - half, p + square / 2 + half].map(bound => bound / (1 + square));
}

function show() {
  const done = answers.length === count;
  $('judging').hidden = done;
  $('result').hidden = !done;
  if (done) { finish(); return; }
  const pair = data.pairs[answers.length], number = answers.length + 1;
  for (const [side, source] of [['left', pair[0]], ['right', pair[1]]]) {
    const image = $(side).querySelector('img');
    image.src = source;
    image.alt = `the image on the ${side} of pair ${number}`;
    $(side).setAttribute('aria-label', `Choose the image on the ${side} of pair ${number}`);
  }
  if (pair.length > 2) { $('reference').src = pair[2]; $('reference').alt = `the original of pair ${number}`; }
  $('place').textContent = `Pair ${number} of ${count}`;
  $('bar').value = answers.length;
  $('back').disabled = answers.length === 0;
}

function finish() {
  const names = JSON.parse(new TextDecoder().decode(revealed(data.names)));
  const truth = Array.from(revealed(data.truth), byte => byte & 1 ? 'left' : 'right');  // where the first kind stood
  const successes = answers.filter((answer, i) => answer === truth[i]).length;
  const [low, high] = interval(successes, count), percent = share => (100 * share).toFixed(1) + '%';
  const chosen = data.right ? 'right answers' : `for ${names[0]}`;
  $('share').textContent = `${successes} of ${count} ${chosen}: ${percent(successes / count)}, 95% interval ` +
    `${percent(low)} to ${percent(high)}`;
  const apart = low > 0.5 || high < 0.5;
  $('verdict').textContent = data.right
    ? (apart ? `The interval leaves out 50%: ${names[0]} and ${names[1]} were told apart.`
             : `The interval holds 50%, what guessing gives: ${names[0]} and ${names[1]} were not told apart.`)
    : (apart ? `The interval leaves out 50%: ${low > 0.5 ? names[0] : names[1]} was preferred.`
             : 'The interval holds 50%: neither was preferred.');
  const rows = [[data.right ? `${names[0]} recognised` : names[0], successes],
                [data.right ? `${names[1]} taken for ${names[0]}` : names[1], count - successes],
                [`${names[0]} on the left`, truth.filter(side => side === 'left').length],
                ['left chosen', answers.filter(side => side === 'left').length]];
  const table = document.createElement('table');
  for (const row of rows) row.reduce((line, cell) => {
    line.insertCell().textContent = cell;
    return line;
  }, table.insertRow());
  $('counts').replaceChildren(table);
  const result = {id: data.id, seed: data.seed, names, counted: data.right ? 'right' : names[0], successes, count,
                  interval: [low, high],
                  answers: answers.map((chosen, i) => ({pair: i, chosen, first: truth[i]}))};
  $('save').href = 'data:application/json;charset=utf-8,' + encodeURIComponent(JSON.stringify(result, null, 2));
  $('result').focus({preventScroll: true});
}

function answer(side) {
  if (answers.length < count) { answers.push(side); keep(); show(); }
}

function back() {
  if (answers.length && answers.length < count) { answers.pop(); keep(); show(); }
}

$('left').addEventListener('click', () => answer('left'));
$('right').addEventListener('click', () => answer('right'));
$('back').addEventListener('click', back);
$('again').addEventListener('click', () => { answers = []; keep(); show(); $('left').focus(); });
document.addEventListener('keydown', event => {
  if (event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
  const action = {ArrowLeft: () => answer('left'), ArrowRight: () => answer('right'), Backspace: back}[event.key];
  if (action && answers.length < count) { event.preventDefault(); action(); }
});
show();
