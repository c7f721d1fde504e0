// Numbers and names as people read them.

export function number(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e5 || size < 1e-3 ? value.toExponential(1) : value.toPrecision(4).replace(/\.?0+$/, "");
  return text.replace("-", "−");
}

export function signed(value) {
  return (value > 0 ? "+" : "") + number(value);
}

export function percent(part) {
  const value = 100 * part;
  if (value !== 0 && Math.abs(value) < 0.1) return value > 0 ? "< 0.1 %" : "> −0.1 %";
  return `${value.toFixed(Math.abs(value) >= 10 || value === 0 ? 0 : 1).replace("-", "−")} %`;
}

export function shape(sizes) {
  return sizes.length ? sizes.join(" × ") : "one number";
}

export function className(names, index) {
  // ImageNet's names are lists of synonyms; the first is enough.
  const name = names?.[index]?.split(", ")[0];
  return name === undefined || name === String(index) ? `class ${index}` : `${name} (${index})`;
}
