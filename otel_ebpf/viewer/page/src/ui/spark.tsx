/** A line of `values` with bars of `failed` under it; a picture beside the numbers, so hidden from screen readers. */
export function Spark({ values, failed, width = 120, height = 24 }: {
  values: readonly number[]; failed?: readonly number[]; width?: number; height?: number;
}) {
  if (values.length < 2) return <svg class="spark" width={width} height={height} aria-hidden="true" />;
  const top = Math.max(...values, 1e-9);
  const step = width / (values.length - 1);
  const y = (value: number): number => height - 1.5 - (value / top) * (height - 4);
  const line = values.map((value, index) => `${index ? "L" : "M"}${(index * step).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const bars = (failed ?? []).map((value, index) => (value > 0
    ? `M${(index * step).toFixed(1)} ${height}V${Math.min(y(value), height - 3).toFixed(1)}` : "")).join("");
  return (
    <svg class="spark" width={width} height={height} viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" aria-hidden="true">
      <path d={`${line}L${width} ${height}L0 ${height}Z`} class="spark-fill" />
      <path d={line} class="spark-line" />
      {bars && <path d={bars} class="spark-bad" />}
    </svg>
  );
}
