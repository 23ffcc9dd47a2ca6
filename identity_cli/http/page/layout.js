// Where the values of a tree lie in its picture: each in a row of its own, below its parent.

export const HEIGHT = 44;
// The texts of a line stand beside its box if there is room, and above it if not. `box` is the
// width of a box, `columns` and `label` what fits into it and onto its line.
const GRIDS = [
  { isBeside: true, indent: 176, row: 58, levels: Infinity, box: 218, columns: 26, label: 22 },
  { isBeside: false, indent: 64, row: 84, levels: 8, box: 300, columns: 36, label: 60 },
  { isBeside: false, indent: 22, row: 84, levels: 8, box: 218, columns: 26, label: 40 },
];
const LABEL = 158;
const TRUNK = 10;
const MARGIN = 14;
const RIGHT_MARGIN = 34; // lines beside the tree lead around the boxes

/**
 * Return the size of the picture and a place for each branch, in the order of the tree.
 *
 * `level` is the depth among the branches that are shown, `x` and `y` the box's upper left corner.
 * A branch whose parent is left out hangs at the root; `skipped` counts the values between.
 */
export function placesOf(tree, width) {
  const places = new Map();
  const [root] = tree;
  for (const branch of tree) {
    const isRoot = branch.parent === null;
    const isSkipped = !isRoot && !places.has(branch.parent);
    const parent = isRoot ? null : places.get(isSkipped ? root.value : branch.parent);
    const skipped = isSkipped ? branch.depth - 1 : 0;
    places.set(branch.value, { branch, parent, level: parent ? parent.level + 1 : 0, skipped });
  }
  const all = [...places.values()];
  const grid = GRIDS.find((one) => sizeOf(all, one).width <= width) ?? GRIDS.at(-1);
  all.forEach((place, row) => {
    place.grid = grid;
    place.x = MARGIN + grid.indent * Math.min(place.level, grid.levels);
    place.y = MARGIN + grid.row * row;
  });
  return { places, ...sizeOf(all, grid) };
}

function sizeOf(places, grid) {
  const level = Math.min(Math.max(...places.map((place) => place.level)), grid.levels);
  return {
    width: MARGIN + grid.indent * level + grid.box + RIGHT_MARGIN,
    height: 2 * MARGIN + grid.row * (places.length - 1) + HEIGHT,
  };
}

/** Return the path of the line from a value's parent to it, and where its two texts begin. */
export function lineTo({ x, y, parent, grid }) {
  const middle = y + HEIGHT / 2;
  const start = Math.min(parent.x + TRUNK, x - 6);
  return {
    path: `M${start} ${parent.y + HEIGHT}V${middle}H${x}`,
    texts: grid.isBeside
      ? [[x - LABEL, middle - 5], [x - LABEL, middle + 14]]
      : [[x + 4, y - 20], [x + 4, y - 6]],
  };
}

/** Return the path of a line between two values that is not part of the tree. */
export function lineBetween(first, second) {
  const [upper, lower] = first.y <= second.y ? [first, second] : [second, first];
  const start = upper.x + upper.grid.box;
  const end = lower.x + lower.grid.box;
  const out = Math.max(start, end) + 22;
  const [from, to] = [upper.y + HEIGHT / 2 + 8, lower.y + HEIGHT / 2 - 8];
  return `M${start} ${from}C${out} ${from} ${out} ${to} ${end} ${to}`;
}

/** Return a text that fits into so many columns of a monospaced font; its ends are kept. */
export function shortened(text, columns) {
  const characters = Array.from(text);
  if (widthOf(characters) <= columns) return text;
  const side = (from) => {
    const kept = [];
    for (const character of from) {
      if (widthOf([...kept, character]) > (columns - 1) / 2) break;
      kept.push(character);
    }
    return kept;
  };
  return [...side(characters), "…", ...side([...characters].reverse()).reverse()].join("");
}

/** Return how many columns the characters take; those of East Asia and pictures take two. */
function widthOf(characters) {
  return characters.reduce((sum, character) => sum + (character.codePointAt(0) >= 0x1100 ? 2 : 1), 0);
}
