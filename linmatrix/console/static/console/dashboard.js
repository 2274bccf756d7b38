// The dashboard draws its plots and keeps itself up to date: parts that have changed are put in their places, so that
// nobody loses theirs. It rests while nobody looks at it.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const COLORS = { blue: "#3b82f6", green: "#16a34a", orange: "#ea8a1f", red: "#dc2626", violet: "#9333ea" };
  const dashboard = document.getElementById("lm-dashboard");
  const status = document.getElementById("lm-status");
  const charts = new Map();

  const dark = () => document.documentElement.classList.contains("dark");
  const lines = () => (dark() ? "#374151" : "#e5e7eb");
  const text = () => (dark() ? "#9ca3af" : "#6b7280");

  // Lines have no points, but for those that have no neighbours to be joined to.
  const alone = (values) => (point) => {
    const at = point.dataIndex;
    return values[at - 1] == null && values[at + 1] == null ? 2 : 0;
  };

  const dataset = (plot, series) => ({
    label: series.text,
    data: series.values,
    borderColor: COLORS[series.color],
    backgroundColor: COLORS[series.color],
    borderDash: series.dashed ? [5, 3] : [],
    borderWidth: plot.kind === "line" ? 2 : 0,
    pointRadius: plot.kind === "line" ? alone(series.values) : 0,
    pointHoverRadius: 4,
    maxBarThickness: 12,
  });

  const options = (plot) => ({
    animation: false,
    responsive: true,
    maintainAspectRatio: false,
    interaction: { mode: "index", intersect: false },
    plugins: { legend: { position: "bottom", labels: { color: text(), boxWidth: 12, boxHeight: 2 } } },
    scales: {
      x: { stacked: plot.kind === "bar", grid: { display: false }, ticks: { color: text(), maxTicksLimit: 7, maxRotation: 0 } },
      y: {
        type: plot.scale,
        stacked: plot.kind === "bar",
        beginAtZero: true,
        suggestedMax: plot.scale === "linear" ? 1 : undefined,
        grid: { color: lines() },
        ticks: { color: text(), maxTicksLimit: 6, precision: plot.whole ? 0 : undefined, callback: (value) => String(Number(Number(value).toPrecision(3))) },
      },
    },
  });

  const draw = () => {
    const drawn = JSON.parse(document.getElementById("lm-drawn").textContent);
    for (const canvas of dashboard.querySelectorAll("canvas[data-plot]")) {
      const plot = drawn.plots[canvas.dataset.plot];
      const data = { labels: drawn.labels, datasets: plot.series.map((series) => dataset(plot, series)) };
      const chart = charts.get(canvas);
      if (chart) {
        chart.data = data;
        chart.options = options(plot);
        chart.update("none");
      } else {
        charts.set(canvas, new Chart(canvas, { type: plot.kind, data, options: options(plot) }));
      }
    }
  };

  const put = (html) => {
    const fresh = new DOMParser().parseFromString(html, "text/html");
    for (const part of dashboard.querySelectorAll("[data-live]")) {
      const other = fresh.querySelector(`[data-live="${part.dataset.live}"]`);
      if (other && other.innerHTML !== part.innerHTML && !part.contains(document.activeElement)) {
        part.innerHTML = other.innerHTML;
      }
    }
    for (const canvas of dashboard.querySelectorAll("canvas[data-plot]")) {
      const other = fresh.querySelector(`canvas[data-plot="${canvas.dataset.plot}"]`);
      if (other) canvas.setAttribute("aria-label", other.getAttribute("aria-label"));
    }
    draw();
  };

  let asking = false;
  const refresh = async () => {
    if (asking || document.visibilityState === "hidden") return;
    asking = true;
    try {
      const answer = await fetch(dashboard.dataset.url, { credentials: "same-origin" });
      if (answer.redirected) return location.reload(); // the login has run out
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      put(await answer.text());
      status.textContent = "";
    } catch (error) {
      status.textContent = `Not up to date: the server could not be asked (${error.message}).`;
    } finally {
      asking = false;
    }
  };

  draw();
  setInterval(refresh, 1000 * Number(dashboard.dataset.seconds));
  document.addEventListener("visibilitychange", refresh);
  new MutationObserver(draw).observe(document.documentElement, { attributes: true, attributeFilter: ["class"] });
});
