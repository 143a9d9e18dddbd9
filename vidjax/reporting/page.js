// Values under the pointer; all else works without it. The figures are those of #data.
const data = JSON.parse(document.getElementById("data").textContent);
const shown = (v) => v === null ? "not finite" : Math.abs(v) >= 1e6 || (v && Math.abs(v) < 1e-3) ? v.toExponential(3) : String(+v.toPrecision(5));
for (const chart of data.charts) {
  const figure = document.getElementById(chart.id);
  if (!figure) continue;
  const box = document.createElement("div");
  box.className = "hover";
  box.hidden = true;
  figure.append(box);
  figure.addEventListener("pointerleave", () => { box.hidden = true; });
  figure.addEventListener("pointermove", (event) => {
    const svg = event.target.closest("svg");
    if (!svg) { box.hidden = true; return; }
    const [first, last] = svg.dataset.axes.split(" ").map(Number);
    const at = svg.getBoundingClientRect(), view = svg.viewBox.baseVal;
    const left = Number(svg.dataset.left), right = Number(svg.dataset.right);
    const x = (event.clientX - at.left) / at.width * view.width;
    const step = first + (x - left) / (view.width - left - right) * (last - first);
    const near = (points) => points.reduce((a, b) => Math.abs(b[0] - step) < Math.abs(a[0] - step) ? b : a);
    const lines = chart.series.filter((one) => one.points.length).map((one) => {
      const point = near(one.points), mean = one.smooth.length ? `, mean ${shown(near(one.smooth)[1])}` : "";
      return [point[0], `${one.name} ${shown(point[1])}${mean}`];
    });
    if (!lines.length) return;
    const steps = new Set(lines.map((line) => line[0]));
    box.textContent = steps.size === 1
      ? [`step ${lines[0][0]}`, ...lines.map((line) => line[1])].join("\n")
      : lines.map((line) => `step ${line[0]}: ${line[1]}`).join("\n");
    box.hidden = false;
    const frame = figure.getBoundingClientRect();
    const across = event.clientX - frame.left;
    box.style.left = `${Math.max(0, Math.min(across + 14, frame.width - box.offsetWidth - 6))}px`;
    box.style.top = `${at.bottom - frame.top + 4}px`;
  });
}
