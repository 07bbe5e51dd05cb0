"use strict";
// Plays the clip that the page carries. Everything is drawn on two canvases: the stage and, above the slider, the curve
// of motion energy. Turning is about the vertical; the first view is that of the camera.
(() => {
  const clip = JSON.parse(document.getElementById("clip").textContent);
  const element = (id) => document.getElementById(id);
  const stage = element("stage"), curve = element("curve"), slider = element("frame"), play = element("play");
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const { frames: T, persons, joints, edges, flat } = clip;
  const M = persons.length, V = joints.length, D = flat ? 2 : 3, GONE = -32768;
  const steps = new Int16Array(bytes(clip.data).buffer);
  const scores = flat ? bytes(clip.scores) : null;
  const jointEnergy = bytes(clip.jointEnergy);
  const heads = new Set(clip.heads);
  const dropped = clip.masks.map((mask) => ({ joints: new Set(mask.joints), frames: new Set(mask.frames) }));
  const START = { yaw: flat ? 0 : -0.4, pitch: flat ? 0 : 0.16, zoom: 1, x: 0, y: 0 };
  const state = { time: 0, playing: false, speed: 1, mask: 0, energy: false, up: flat ? "picture" : "y", ...START };
  let colour = {};

  function readColours() {
    const style = getComputedStyle(document.documentElement);
    const read = (name) => style.getPropertyValue(`--${name}`).trim();
    colour = { ink: read("ink"), muted: read("muted"), faint: read("faint"), line: read("line"), paper: read("paper"),
      orange: read("orange"), persons: [0, 1, 2, 3].map((n) => read(`person-${n}`)),
      encoders: [read("blue"), read("vermilion")] };
  }

  // The point of a joint with y up, x to the camera's right and z away from it, or null where it is not known.
  function point(person, frame, joint) {
    const at = ((person * T + frame) * V + joint) * D;
    if (steps[at] === GONE) return null;
    const [a, b, c] = [steps[at], steps[at + 1], D === 3 ? steps[at + 2] : 0];
    if (state.up === "picture") return [a, -b, 0];
    if (state.up === "-y") return [-a, -b, -c];
    if (state.up === "z") return [-a, c, -b];
    return [-a, b, c];
  }

  // The box from which the view follows: around everything but what is far off, as joints that a sensor loses. Not
  // around a share of the joints: a head is a small one of those who stand up at the end.
  const FAR = 3;
  let box = { middle: [0, 0, 0], half: [1, 1, 1], radius: 1, floor: 0 };
  function measure() {
    const values = [[], [], []], lowest = [];
    for (let m = 0; m < M; m++) for (let t = 0; t < T; t++) {
      const points = joints.map((_, v) => point(m, t, v)).filter((p) => p);
      for (const p of points) p.forEach((value, axis) => values[axis].push(value));
      if (points.length) lowest.push(Math.min(...points.map((p) => p[1])));
    }
    if (!lowest.length) return;
    const share = (numbers, part) => numbers.sort((a, b) => a - b)[Math.floor(part * (numbers.length - 1))];
    const lower = values.map((numbers) => share(numbers, 0.25)), upper = values.map((numbers) => share(numbers, 0.75));
    const reach = FAR * Math.max(...upper.map((value, axis) => value - lower[axis]));
    const low = values.map((numbers, axis) => numbers.find((value) => value >= lower[axis] - reach));
    const high = values.map((numbers, axis) => numbers.findLast((value) => value <= upper[axis] + reach));
    const middle = low.map((value, axis) => (value + high[axis]) / 2);
    const half = low.map((value, axis) => Math.max((high[axis] - value) / 2, 1));
    box = { middle, half, radius: Math.hypot(...half), floor: share(lowest, 0.25) };
  }

  function fitted(canvas) {
    const ratio = window.devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    return { pen, width, height };
  }

  function camera(width, height) {
    const room = flat ? Math.min(0.43 * height / box.half[1], 0.43 * width / box.half[0])
      : 0.48 * Math.min(width * 1.25, height) / box.radius;
    const scale = room * state.zoom;
    const [cy, sy, cp, sp] = [Math.cos(state.yaw), Math.sin(state.yaw), Math.cos(state.pitch), Math.sin(state.pitch)];
    const distance = 5 * box.radius;
    return (p) => {
      const [x, y, z] = [p[0] - box.middle[0], p[1] - box.middle[1], p[2] - box.middle[2]];
      const across = cy * x - sy * z, along = sy * x + cy * z;
      const up = cp * y + sp * along, depth = cp * along - sp * y;
      const near = flat ? 1 : distance / (distance + depth);
      return { x: width / 2 + state.x + across * scale * near, y: height / 2 + state.y - up * scale * near, depth, near };
    };
  }

  function drawFloor(pen, project) {
    const unit = box.radius / 2, half = 4;
    const corner = box.middle.map((value) => Math.round(value / unit) * unit);
    pen.strokeStyle = colour.line;
    pen.lineWidth = 1;
    pen.beginPath();
    for (let i = -half; i <= half; i++) for (const turned of [false, true]) {
      const ends = [-half, half].map((j) => {
        const [a, b] = turned ? [i, j] : [j, i];
        return project([corner[0] + a * unit, box.floor, corner[2] + b * unit]);
      });
      pen.moveTo(ends[0].x, ends[0].y);
      pen.lineTo(ends[1].x, ends[1].y);
    }
    pen.stroke();
  }

  function line(pen, a, b) {
    pen.beginPath();
    pen.moveTo(a.x, a.y);
    pen.lineTo(b.x, b.y);
    pen.stroke();
  }

  function drawBody(pen, person, frame, project, size) {
    const places = [], shadow = [];
    for (let v = 0; v < V; v++) {
      const p = point(person, frame, v);
      places.push(p && project(p));
      shadow.push(p && !flat && project([p[0], box.floor, p[2]]));
    }
    const lost = state.mask ? dropped[state.mask - 1] : null;
    const ghost = lost && lost.frames.has(frame);
    const own = colour.persons[person % 4], encoder = lost ? colour.encoders[state.mask - 1] : "";
    pen.lineCap = "round";
    pen.strokeStyle = colour.ink;
    pen.globalAlpha = 0.08;
    pen.lineWidth = 3 * size;
    pen.beginPath();
    for (const [a, b] of edges) if (shadow[a] && shadow[b]) {
      pen.moveTo(shadow[a].x, shadow[a].y);
      pen.lineTo(shadow[b].x, shadow[b].y);
    }
    pen.stroke();
    const seen = (v) => (scores ? 0.2 + 0.8 * scores[(person * T + frame) * V + v] / 255 : 1) * (ghost ? 0.25 : 1);
    const order = edges.filter(([a, b]) => places[a] && places[b]);
    order.sort((e, f) => places[f[0]].depth + places[f[1]].depth - places[e[0]].depth - places[e[1]].depth);
    for (const [a, b] of order) {
      const gone = lost && (lost.joints.has(a) || lost.joints.has(b));
      pen.globalAlpha = Math.min(seen(a), seen(b)) * (gone ? 0.55 : 1);
      pen.strokeStyle = own;
      pen.lineWidth = (gone ? 1.8 : 4.2) * size * (places[a].near + places[b].near) / 2;
      pen.setLineDash(gone ? [2 * size, 5 * size] : []);
      line(pen, places[a], places[b]);
    }
    pen.setLineDash([]);
    for (let v = 0; v < V; v++) if (places[v]) {
      const { x, y, near } = places[v], gone = lost && lost.joints.has(v);
      const moved = state.energy ? jointEnergy[(person * T + frame) * V + v] / 255 : 0;
      pen.globalAlpha = seen(v) * (moved ? 0.85 : 1);
      if (moved) {
        pen.fillStyle = colour.orange;
        pen.beginPath();
        pen.arc(x, y, (3.4 + 15 * moved) * size * near, 0, 7);
        pen.fill();
      }
      pen.globalAlpha = gone ? 1 : seen(v);
      pen.fillStyle = gone ? colour.paper : own;
      pen.beginPath();
      pen.arc(x, y, ((gone ? 5.2 : 3.6) + (heads.has(v) ? 5 : 0)) * size * near, 0, 7);
      pen.fill();
      if (gone) {
        pen.strokeStyle = encoder;
        pen.lineWidth = 2.2 * size;
        pen.stroke();
      }
    }
    pen.globalAlpha = 1;
    return places.some((place) => place);
  }

  function drawStage(frame) {
    const { pen, width, height } = fitted(stage), project = camera(width, height);
    const size = Math.max(0.7, Math.min(width, height) / 520) * Math.min(state.zoom, 2.2) ** 0.5;
    const lost = state.mask && dropped[state.mask - 1].frames.has(frame);
    if (lost) {
      pen.globalAlpha = 0.12;
      pen.fillStyle = colour.encoders[state.mask - 1];
      pen.fillRect(0, 0, width, height);
      pen.globalAlpha = 1;
    }
    if (!flat) drawFloor(pen, project);
    let anybody = false;
    for (let m = 0; m < M; m++) anybody = drawBody(pen, m, frame, project, size) || anybody;
    const words = !anybody ? "nobody is in this frame" : lost ? `encoder ${state.mask} drops this frame` : "";
    pen.font = "600 15px system-ui, 'DejaVu Sans', sans-serif";
    pen.fillStyle = lost ? colour.encoders[state.mask - 1] : colour.muted;
    pen.fillText(words, 18, 30);
  }

  const EDGE = 8; // half of the slider's thumb, so that curve and slider agree
  function drawCurve(frame) {
    const { pen, width, height } = fitted(curve), floor = height - 22;
    const at = (t) => EDGE + (T > 1 ? t / (T - 1) : 0) * (width - 2 * EDGE);
    const step = T > 1 ? (width - 2 * EDGE) / (T - 1) : width;
    dropped.forEach((mask, number) => {
      pen.fillStyle = colour.encoders[number];
      for (const t of mask.frames) {
        pen.globalAlpha = state.mask === number + 1 ? 0.16 : 0;
        pen.fillRect(at(t) - step / 2, 0, step, floor);
        pen.globalAlpha = state.mask && state.mask !== number + 1 ? 0.3 : 1;
        pen.fillRect(at(t) - Math.max(step * 0.42, 1), floor + 5 + 9 * number, Math.max(step * 0.84, 2), 6);
      }
    });
    pen.globalAlpha = 1;
    const most = Math.max(...clip.energy) || 1, high = floor - 8;
    pen.beginPath();
    clip.energy.forEach((value, t) => pen.lineTo(at(t), floor - high * Math.sqrt(value / most)));
    pen.strokeStyle = colour.ink;
    pen.lineWidth = 1.6;
    pen.lineJoin = "round";
    pen.stroke();
    pen.lineTo(at(T - 1), floor);
    pen.lineTo(at(0), floor);
    pen.globalAlpha = 0.08;
    pen.fillStyle = colour.ink;
    pen.fill();
    pen.globalAlpha = 1;
    pen.strokeStyle = colour.line;
    pen.lineWidth = 1;
    line(pen, { x: 0, y: floor + 0.5 }, { x: width, y: floor + 0.5 });
    pen.strokeStyle = pen.fillStyle = colour.orange;
    pen.lineWidth = 2;
    line(pen, { x: at(frame), y: 0 }, { x: at(frame), y: height });
    pen.beginPath();
    pen.arc(at(frame), floor - high * Math.sqrt(clip.energy[frame] / most), 4.5, 0, 7);
    pen.fill();
  }

  function draw() {
    const frame = Math.min(T - 1, Math.floor(state.time));
    slider.value = frame;
    const said = `frame ${frame} of ${T - 1}`;
    slider.setAttribute("aria-valuetext", said);
    element("time").textContent = `${said} · ${(frame / clip.rate).toFixed(2)} s`;
    drawStage(frame);
    drawCurve(frame);
  }

  let asked = false;
  function later() {
    if (!asked) requestAnimationFrame(() => { asked = false; draw(); });
    asked = true;
  }

  let before = 0;
  function tick(now) {
    if (!state.playing) return;
    state.time = (state.time + Math.min(now - before, 250) / 1000 * clip.rate * state.speed) % T;
    before = now;
    draw();
    requestAnimationFrame(tick);
  }

  function setPlaying(playing) {
    if (playing === state.playing) return;
    state.playing = playing;
    element("play-sign").textContent = playing ? "❚❚" : "▶";
    element("play-word").textContent = playing ? "Pause" : "Play";
    if (playing) {
      before = performance.now();
      requestAnimationFrame(tick);
    }
  }

  function seek(frame) {
    setPlaying(false);
    state.time = Math.max(0, Math.min(T - 1, frame));
    later();
  }

  function zoom(factor) {
    state.zoom = Math.max(0.3, Math.min(8, state.zoom * factor));
    later();
  }

  function turn(dx, dy) {
    if (flat) {
      state.x += dx;
      state.y += dy;
    } else {
      state.yaw += dx * 0.01;
      state.pitch = Math.max(-1.5, Math.min(1.5, state.pitch + dy * 0.01));
    }
    later();
  }

  play.addEventListener("click", () => setPlaying(!state.playing));
  slider.addEventListener("input", () => seek(Number(slider.value)));
  element("back").addEventListener("click", () => seek(Math.floor(state.time) - 1));
  element("forth").addEventListener("click", () => seek(Math.floor(state.time) + 1));
  element("reset").addEventListener("click", () => { Object.assign(state, START); later(); });
  element("speed").addEventListener("change", (event) => { state.speed = Number(event.target.value); });
  element("energy").addEventListener("change", (event) => { state.energy = event.target.checked; later(); });
  element("up")?.addEventListener("change", (event) => { state.up = event.target.value; measure(); later(); });
  for (const choice of document.getElementsByName("mask")) {
    choice.addEventListener("change", () => { state.mask = Number(choice.value); later(); });
  }

  // Mouse and touch: one finger turns, two zoom.
  const fingers = new Map();
  const apart = () => {
    const [a, b] = [...fingers.values()];
    return Math.hypot(a.x - b.x, a.y - b.y);
  };
  stage.addEventListener("pointerdown", (event) => {
    stage.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  stage.addEventListener("pointermove", (event) => {
    const last = fingers.get(event.pointerId);
    if (!last) return;
    const wide = fingers.size === 2 ? apart() : 0;
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (wide) zoom(apart() / wide);
    else if (fingers.size === 1) turn(event.clientX - last.x, event.clientY - last.y);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    stage.addEventListener(end, (event) => fingers.delete(event.pointerId));
  }
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * 0.0015));
  }, { passive: false });
  const seekTo = (event) => {
    const share = (event.offsetX - EDGE) / Math.max(curve.clientWidth - 2 * EDGE, 1);
    seek(Math.round(share * (T - 1)));
  };
  curve.addEventListener("pointerdown", (event) => { curve.setPointerCapture(event.pointerId); seekTo(event); });
  curve.addEventListener("pointermove", (event) => { if (event.buttons) seekTo(event); });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const inControl = /^(INPUT|SELECT|BUTTON|SUMMARY)$/.test(event.target.tagName);
    const turning = { ArrowLeft: [-14, 0], ArrowRight: [14, 0], ArrowUp: [0, -14], ArrowDown: [0, 14] }[event.key];
    if (event.key === " " && !inControl) setPlaying(!state.playing);
    else if (event.key === ",") seek(Math.floor(state.time) - 1);
    else if (event.key === ".") seek(Math.floor(state.time) + 1);
    else if (event.key === "+" || event.key === "=") zoom(1.15);
    else if (event.key === "-") zoom(1 / 1.15);
    else if (event.key === "0") element("reset").click();
    else if (event.key === "e") element("energy").click();
    else if (/^m$/.test(event.key)) document.getElementsByName("mask")[(state.mask + 1) % 3].click();
    else if (turning && event.target === stage) turn(...turning);
    else return;
    event.preventDefault();
  });

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColours(); later(); });
  new ResizeObserver(later).observe(stage);
  readColours();
  measure();
  draw();
})();
