/** Least squares: how much `value` grows per unit of `at`. */
export function slope<Sample>(
  samples: readonly Sample[],
  at: (sample: Sample) => number,
  value: (sample: Sample) => number,
): number {
  const mean = (numbers: readonly number[]) => numbers.reduce((sum, n) => sum + n, 0) / numbers.length;
  const x = mean(samples.map(at));
  const y = mean(samples.map(value));
  const above = samples.reduce((sum, each) => sum + (at(each) - x) * (value(each) - y), 0);
  return above / samples.reduce((sum, each) => sum + (at(each) - x) ** 2, 0);
}
