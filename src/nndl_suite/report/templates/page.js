"use strict";
// The page reads whole without this script; what it adds can be operated by mouse, touch and keyboard.
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
const live = (figure) => {
  figure.classList.add("live");
  figure.querySelector(".controls").hidden = false;
};

// Photo and render under one another, a line between them that moves.
for (const figure of document.querySelectorAll("[data-compare]")) {
  const stack = figure.querySelector(".stack"), at = figure.querySelector("input[type=range]");
  const errors = figure.querySelector("input[type=checkbox]");
  const show = () => stack.style.setProperty("--at", at.value + "%");
  const follow = (event) => {
    const box = stack.getBoundingClientRect();
    at.value = Math.round((100 * (event.clientX - box.left)) / box.width);
    show();
  };
  live(figure);
  at.addEventListener("input", show);
  if (errors) errors.addEventListener("change", () => stack.classList.toggle("errors", errors.checked));
  stack.addEventListener("pointerdown", (event) => {
    stack.setPointerCapture(event.pointerId);
    follow(event);
  });
  stack.addEventListener("pointermove", (event) => {
    if (stack.hasPointerCapture(event.pointerId)) follow(event);
  });
  for (const image of stack.querySelectorAll("img")) image.draggable = false;
  show();
}

// Frames that lie side by side in one picture, shown one after another.
for (const figure of document.querySelectorAll("[data-film]")) {
  const film = figure.querySelector(".film"), image = film.querySelector("img");
  const controls = figure.querySelector(".controls"), turn = controls.querySelector("input");
  const button = controls.querySelector("button");
  const [frames, columns, rows] = ["frames", "columns", "rows"].map((name) => Number(controls.dataset[name]));
  let timer = 0;
  const show = () => {
    const frame = Number(turn.value), right = frame % columns, down = Math.floor(frame / columns);
    image.style.transform = `translate(${(-100 * right) / columns}%, ${(-100 * down) / rows}%)`;
  };
  const play = (on) => {
    clearInterval(timer);
    timer = on ? setInterval(() => { turn.value = (Number(turn.value) + 1) % frames; show(); }, 110) : 0;
    button.textContent = on ? "Pause" : "Play";
  };
  live(figure);
  film.classList.add("live");
  button.addEventListener("click", () => play(!timer));
  turn.addEventListener("input", () => { play(false); show(); });
  show();
  play(!calm);
}
if (!calm) for (const video of document.querySelectorAll("[data-plays]")) video.play().catch(() => {});

// Cameras and cloud: the still is replaced by a canvas that turns.
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const drawings = [];
for (const figure of document.querySelectorAll("[data-scene]")) {
  const scene = JSON.parse(figure.querySelector("script").textContent);
  const canvas = figure.querySelector("canvas"), paint = canvas.getContext("2d");
  if (!paint) continue;
  const first = { yaw: scene.yaw, pitch: scene.pitch, zoom: 1 };
  let view = { ...first };

  const triples = (flat, scale) =>
    Array.from({ length: flat.length / 3 }, (_, i) => flat.slice(3 * i, 3 * i + 3).map((v) => v / scale));
  const points = triples(scene.xyz, scene.unit), colours = triples(scene.rgb, 1);
  const centres = triples(scene.centres, scene.unit);
  const forwards = triples(scene.forwards, scene.unit), ups = triples(scene.ups, scene.unit);
  const corner = (i, across, along) => {
    const f = forwards[i], u = ups[i];
    const r = [f[1] * u[2] - f[2] * u[1], f[2] * u[0] - f[0] * u[2], f[0] * u[1] - f[1] * u[0]];
    return centres[i].map((c, k) => c + scene.size * (f[k] + 0.6 * across * r[k] + 0.45 * along * u[k]));
  };
  const frusta = centres.map((centre, i) => {
    const [a, b, c, d] = [[-1, 1], [1, 1], [1, -1], [-1, -1]].map(([x, y]) => corner(i, x, y));
    return [centre, a, b, centre, c, d, centre, a, d, c, b];
  });

  const draw = () => {
    const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    const strokes = [colour("--c0"), colour("--c1")];
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    paint.scale(ratio, ratio);
    const scale = view.zoom * Math.min(width / 3.2, height / 2);
    const cy = Math.cos(view.yaw), sy = Math.sin(view.yaw), cp = Math.cos(view.pitch), sp = Math.sin(view.pitch);
    const turn = ([x, y, z]) => {
      const right = x * cy - y * sy, away = x * sy + y * cy;
      return [width / 2 + scale * right, height / 2 - scale * (z * cp + away * sp), z * sp - away * cp];
    };
    const seen = points.map((point, i) => [...turn(point), i]).sort((p, q) => p[2] - q[2]);
    for (const [x, y, , i] of seen) {
      paint.fillStyle = `rgb(${colours[i]})`;
      paint.fillRect(x - 1, y - 1, 2, 2);
    }
    paint.lineWidth = 1.3;
    frusta.forEach((stroke, i) => {
      paint.strokeStyle = strokes[scene.test[i]];
      paint.beginPath();
      stroke.forEach((point, k) => {
        const [x, y] = turn(point);
        if (k) paint.lineTo(x, y);
        else paint.moveTo(x, y);
      });
      paint.stroke();
    });
  };
  let asked = false;
  const redraw = () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; draw(); });
  };
  const turnBy = (yaw, pitch) => {
    view.yaw += yaw;
    view.pitch = Math.max(-1.5, Math.min(1.5, view.pitch + pitch));
    redraw();
  };
  const press = (key) => {
    const turns = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] };
    const zooms = { "+": 1.15, "-": 1 / 1.15 };
    if (turns[key]) turnBy(...turns[key]);
    else if (zooms[key]) { view.zoom *= zooms[key]; redraw(); }
    else if (key === "Home") { view = { ...first }; redraw(); }
    else return false;
    return true;
  };

  let last = null;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    last = event;
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last || last.pointerId !== event.pointerId) return;
    turnBy((event.clientX - last.clientX) * 0.008, (event.clientY - last.clientY) * 0.008);
    last = event;
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { last = null; });
  canvas.addEventListener("dblclick", () => press("Home"));
  canvas.addEventListener("keydown", (event) => {
    if (press(event.key)) event.preventDefault();
  });
  for (const button of figure.querySelectorAll("[data-key]"))
    button.addEventListener("click", () => press(button.dataset.key));
  figure.querySelector("img").hidden = true;
  canvas.hidden = figure.querySelector(".hint").hidden = false;
  live(figure);
  new ResizeObserver(redraw).observe(canvas);
  drawings.push(redraw);
  draw();
}
const repaint = () => drawings.forEach((redraw) => redraw());
for (const choice of document.querySelectorAll("[name=theme]")) choice.addEventListener("change", repaint);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
