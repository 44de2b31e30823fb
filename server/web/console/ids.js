/**
 * Event ids, `<generation>-<sequence>`. Both halves go up to 2^64, so they are compared as BigInt: as numbers
 * or as text two different ids would look equal or out of order.
 */

function parse(id) {
  const [generation, sequence] = id.split("-");
  return [BigInt(generation), BigInt(sequence)];
}

/**
 * Order of two event ids: negative, zero or positive, like a sort callback.
 * @param {string} left
 * @param {string} right
 * @returns {number}
 */
export function compareIds(left, right) {
  const [a, b] = [parse(left), parse(right)];
  const half = a[0] === b[0] ? 1 : 0;
  return a[half] === b[half] ? 0 : a[half] < b[half] ? -1 : 1;
}

/**
 * How many events of the same generation lie between two ids: 0 for neighbours and across generations.
 * An EventSource drops events of types nobody listens for, so this is how the page notices them.
 * @param {string|null} earlier
 * @param {string} later
 * @returns {number}
 */
export function idsBetween(earlier, later) {
  if (earlier === null) return 0;
  const [a, b] = [parse(earlier), parse(later)];
  return a[0] === b[0] && b[1] > a[1] ? Number(b[1] - a[1] - 1n) : 0;
}
