// Moving skeletons on canvases, without a library. processor/report/motion.py writes the data;
// for each sequence a <div class="player" data-motion="ID"> and a <script type="application/json" id="ID">.
// Player.init(root) shows all of them below root; Player.show(element, data) shows, or exchanges, one.
// All text goes in by textContent, so nothing in a name is read as HTML.
"use strict";

const Player = (() => {
  const GROUPS = 8, ABSENT = 4095, SPEEDS = [0.25, 0.5, 1, 2];
  const players = new Map(); // element -> its player
  let last = 0, ticking = false;

  // --- data -------------------------------------------------------------------------------------------------------

  function bytes(base64) {
    return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  }

  // Joints (L, M, V, D) as one flat array; NaN where a person is absent.
  function decoded(data) {
    const [frames, people, joints, dims] = data.shape, packed = bytes(data.codes);
    const found = new Float32Array(frames * people * joints * dims);
    for (let i = 0; i < found.length; i++) {
      const at = 3 * (i >> 1);
      const code = i & 1 ? ((packed[at + 1] & 15) << 8) | packed[at + 2] : (packed[at] << 4) | (packed[at + 1] >> 4);
      found[i] = code === ABSENT ? NaN : data.low[i % dims] + code * data.step;
    }
    return found;
  }

  // (L * M * V): 1 where a joint of somebody who is there is not seen.
  function missing(data) {
    const [frames, people, joints] = data.shape, found = new Uint8Array(frames * people * joints);
    if (data.missing) {
      const packed = bytes(data.missing);
      for (let i = 0; i < found.length; i++) found[i] = (packed[i >> 3] >> (7 - (i & 7))) & 1;
    }
    return found;
  }

  // The middle of all places, and half of the largest distance from it: what a picture must hold, however it is turned.
  function bounds(points, dims) {
    const low = Array(dims).fill(Infinity), high = Array(dims).fill(-Infinity);
    for (let i = 0; i < points.length; i++) {
      if (points[i] < low[i % dims]) low[i % dims] = points[i];
      if (points[i] > high[i % dims]) high[i % dims] = points[i];
    }
    if (!Number.isFinite(low[0])) return { middle: Array(dims).fill(0), half: Array(dims).fill(1), empty: true };
    const middle = low.map((value, axis) => (value + high[axis]) / 2);
    return { middle, half: low.map((value, axis) => (high[axis] - value) / 2), empty: false };
  }

  // --- colours ----------------------------------------------------------------------------------------------------

  function colour(style, name) {
    return style.getPropertyValue(`--player-${name}`).trim() || "#808080";
  }

  function mixed(from, to, share) {
    const part = (text, at) => parseInt(text.slice(at, at + 2), 16);
    const channel = (at) => Math.round(part(from, at) * (1 - share) + part(to, at) * share);
    return `rgb(${channel(1)}, ${channel(3)}, ${channel(5)})`;
  }

  function ofValue(style, value, [low, high]) {
    if (value === null) return colour(style, "scale-0");
    const share = Math.min(1, Math.abs(value) / (Math.max(-low, high) || 1)); // the same below 0 as above it
    if (value < 0) return mixed(colour(style, "scale-0"), colour(style, "below"), share);
    const place = share * 4, step = Math.min(3, Math.floor(place));
    return mixed(colour(style, `scale-${step}`), colour(style, `scale-${step + 1}`), place - step);
  }

  function groupColours(player) {
    const style = getComputedStyle(player.element), { groups, values } = player.data;
    return groups.map((group, number) =>
      values ? ofValue(style, group.value, values.range) : colour(style, `group-${number % GROUPS}`));
  }

  // --- the page ---------------------------------------------------------------------------------------------------

  function made(kind, parent, className = "", text = "") {
    const element = document.createElement(kind);
    if (className) element.className = className;
    if (text) element.textContent = text;
    parent.append(element);
    return element;
  }

  function said(value) {
    return value === null ? "unknown" : value.toFixed(2).replace(/^-(0\.00)$/, "$1").replace("-", "\u2212");
  }

  function build(player) {
    const { element, data } = player, frames = data.shape[0], turns = data.dims === 3;
    element.replaceChildren();
    element.setAttribute("role", "group");
    element.setAttribute("aria-label", data.name || "moving skeleton");
    if (data.name) made("p", element, "player-name", data.name);
    player.canvas = made("canvas", element, turns ? "turns" : "");
    player.canvas.tabIndex = 0;
    player.canvas.setAttribute("role", "img");
    const controls = made("div", element, "player-controls");
    player.button = made("button", controls, "player-play");
    player.button.type = "button";
    player.button.disabled = !player.moves;
    player.button.addEventListener("click", () => play(player, !player.playing));
    player.slider = made("input", controls);
    Object.assign(player.slider, { type: "range", min: 0, max: Math.max(frames - 1, 0), step: 1, value: 0 });
    player.slider.disabled = !player.moves;
    player.slider.setAttribute("aria-label", "frame");
    player.slider.addEventListener("input", () => { play(player, false); goTo(player, Number(player.slider.value)); });
    player.output = made("span", controls, "player-frame");
    const speed = made("select", controls);
    speed.setAttribute("aria-label", "speed");
    for (const factor of SPEEDS) {
      const option = made("option", speed, "", `${factor} \u00d7`);
      option.value = factor;
      option.selected = factor === 1;
    }
    speed.addEventListener("change", () => { player.speed = Number(speed.value); });
    const label = made("label", controls);
    const box = made("input", label);
    box.type = "checkbox";
    box.addEventListener("change", () => { player.numbers = box.checked; draw(player); });
    label.append("numbers");
    if (turns) {
      const reset = made("button", controls, "player-reset", "Front");
      reset.type = "button";
      reset.title = "the view from the front again";
      reset.addEventListener("click", () => { player.turn = [0, 0]; draw(player); });
    }
    player.legend = made("div", element);
    for (const line of notes(player)) made("p", element, "player-notes", line);
    listen(player);
  }

  function notes({ data, extent }) {
    const lines = [...data.notes];
    if (extent.empty) lines.push("Nobody is there in any frame.");
    if (data.missing) lines.push("Dashed: joints that were not seen, put between their places before and after.");
    if (data.every > 1) lines.push(`Of ${data.length} frames, one in ${data.every} is shown.`);
    return lines;
  }

  function legend(player) {
    const { data, colours } = player;
    player.legend.replaceChildren();
    const list = made("ul", player.legend, "player-legend");
    data.groups.forEach((group, number) => {
      const item = made("li", list);
      made("span", item, "player-swatch").style.background = colours[number];
      const name = group.name.replaceAll("_", " ");
      made("span", item, "", data.values ? `${name} ${said(group.value)}` : name);
    });
    if (!data.values) return;
    const [low, high] = data.values.range, style = getComputedStyle(player.element);
    const scale = made("div", player.legend, "player-scale"), stops = [];
    made("div", scale, "", data.values.label);
    for (let i = 0; i <= 20; i++) stops.push(ofValue(style, low + ((high - low) * i) / 20, data.values.range));
    made("div", scale, "player-bar").style.background = `linear-gradient(to right, ${stops.join(", ")})`;
    const ends = made("div", scale, "player-ends");
    made("span", ends, "", said(low));
    made("span", ends, "", said(high));
  }

  function listen(player) {
    const { canvas, data } = player, turn = (x, y) => {
      player.turn = [player.turn[0] + x, Math.max(-Math.PI, Math.min(Math.PI, player.turn[1] + y))];
      draw(player);
    };
    let from = null;
    canvas.addEventListener("pointerdown", (event) => {
      if (data.dims !== 3) return;
      from = [event.clientX, event.clientY];
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!from) return;
      turn((event.clientX - from[0]) * 0.01, (event.clientY - from[1]) * 0.01);
      from = [event.clientX, event.clientY];
    });
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, () => { from = null; });
    const steps = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, -0.15], ArrowDown: [0, 0.15] };
    canvas.addEventListener("keydown", (event) => {
      const step = steps[event.key];
      if (event.key === " ") play(player, !player.playing);
      else if (step && data.dims === 3) turn(...step);
      else return;
      event.preventDefault();
    });
  }

  // --- drawing ----------------------------------------------------------------------------------------------------

  // Where a point lies in the picture: to the right, down, and away from the viewer.
  function project(player, x, y, z) {
    const { middle } = player.extent;
    x -= middle[0];
    y -= middle[1];
    if (player.data.dims === 2) return [x, y, 0];
    z -= middle[2];
    const [yaw, pitch] = player.turn, right = -x * Math.cos(yaw) + z * Math.sin(yaw);
    const away = x * Math.sin(yaw) + z * Math.cos(yaw);
    return [right, -(y * Math.cos(pitch) + away * Math.sin(pitch)), away * Math.cos(pitch) - y * Math.sin(pitch)];
  }

  // Pixels for one unit, so that the box around all places fits as it is turned.
  function scaleOf({ data, extent, turn }, width, height) {
    let [across, up, deep = 0] = extent.half;
    if (data.dims === 3) {
      const [sin, cos, rise, run] = turn.flatMap((angle) => [Math.abs(Math.sin(angle)), Math.abs(Math.cos(angle))]);
      [across, deep] = [across * cos + deep * sin, across * sin + deep * cos];
      up = up * run + deep * rise;
    }
    return Math.min((width - 40) / 2 / Math.max(across, 1e-9), (height - 40) / 2 / Math.max(up, 1e-9));
  }

  function draw(player) {
    const { canvas, data, points, absent } = player, [frames, people, joints, dims] = data.shape;
    const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width || !height || !frames) return;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const pen = canvas.getContext("2d"), frame = Math.min(frames - 1, Math.floor(player.place));
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const scale = scaleOf(player, width, height), size = joints > 40 ? 0.6 : 1;
    for (let person = 0; person < people; person++) {
      const first = (frame * people + person) * joints;
      if (Number.isNaN(points[first * dims])) continue;
      const places = Array.from({ length: joints }, (_, joint) => {
        const at = (first + joint) * dims, [x, y, away] = project(player, points[at], points[at + 1], points[at + 2]);
        return { x: width / 2 + x * scale, y: height / 2 + y * scale, away, absent: absent[first + joint] === 1 };
      });
      const ofJoint = jointColours(player, frame);
      const bones = data.bones.map(([one, other]) => [places[one], places[other], ofJoint[one]]);
      bones.sort((a, b) => b[0].away + b[1].away - a[0].away - a[1].away);
      for (const [one, other, tint] of bones) bone(pen, one, other, tint, size);
      places.forEach((place, joint) => dot(pen, place, ofJoint[joint], size));
      if (player.numbers) numbers(pen, places, player.ink, size);
    }
    const shown = frame * data.every + 1;
    player.slider.value = frame;
    player.slider.setAttribute("aria-valuetext", `frame ${shown} of ${data.length}`);
    player.output.textContent = `${shown} / ${data.length}`;
  }

  // The colour of each joint in a frame: of its group, or outside its group's span that of the first group.
  function jointColours({ data, colours }, frame) {
    const found = Array(data.shape[2]);
    data.groups.forEach((group, number) => {
      const own = !group.span || (frame >= group.span[0] && frame < group.span[1]);
      for (const joint of group.joints) found[joint] = colours[own ? number : 0];
    });
    return found;
  }

  function bone(pen, one, other, tint, size) {
    const dashed = one.absent || other.absent;
    pen.strokeStyle = tint;
    pen.lineWidth = (dashed ? 2 : 4) * size;
    pen.lineCap = dashed ? "butt" : "round";
    pen.setLineDash(dashed ? [4, 4] : []);
    pen.beginPath();
    pen.moveTo(one.x, one.y);
    pen.lineTo(other.x, other.y);
    pen.stroke();
    pen.setLineDash([]);
  }

  function dot(pen, place, tint, size) {
    pen.beginPath();
    pen.arc(place.x, place.y, 4 * size, 0, 2 * Math.PI);
    if (place.absent) {
      pen.strokeStyle = tint;
      pen.lineWidth = 1.5;
      pen.setLineDash([2, 2]);
      pen.stroke();
      pen.setLineDash([]);
    } else {
      pen.fillStyle = tint;
      pen.fill();
    }
  }

  function numbers(pen, places, ink, size) {
    pen.fillStyle = ink;
    pen.font = `${Math.round(11 * Math.max(0.75, size))}px system-ui, sans-serif`;
    places.forEach((place, joint) => pen.fillText(String(joint), place.x + 5, place.y - 5));
  }

  // --- time -------------------------------------------------------------------------------------------------------

  function play(player, playing) {
    player.playing = playing && player.moves;
    player.button.textContent = player.playing ? "Pause" : "Play";
    describe(player);
    if (player.playing && !ticking) {
      ticking = true;
      last = 0;
      requestAnimationFrame(tick);
    }
  }

  function goTo(player, frame) {
    player.place = frame;
    draw(player);
  }

  function describe({ canvas, data, playing }) {
    const people = data.shape[1] > 1 ? `up to ${data.shape[1]} people` : "one person";
    const keys = `space ${playing ? "pauses" : "plays"}` + (data.dims === 3 ? ", arrow keys turn" : "");
    const values = data.groups.map((group) => `${group.name} ${said(group.value)}`).join(", ");
    const what = data.values ? `${people}; ${data.values.label}: ${values}` : people;
    canvas.setAttribute("aria-label", `${data.name || "skeleton"}: ${data.length} frames, ${what}; ${keys}`);
  }

  function tick(now) {
    const seconds = last ? Math.min(0.1, (now - last) / 1000) : 0;
    last = now;
    ticking = false;
    for (const player of players.values()) {
      if (!player.element.isConnected) players.delete(player.element);
      if (!player.playing || !player.element.isConnected) continue;
      ticking = true;
      if (!player.visible) continue;
      const { fps, every, shape } = player.data;
      player.place = (player.place + (seconds * fps * player.speed) / every) % shape[0];
      draw(player);
    }
    if (ticking) requestAnimationFrame(tick);
  }

  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const player = players.get(entry.target);
      if (player) player.visible = entry.isIntersecting;
    }
  });
  const sized = new ResizeObserver((entries) => {
    for (const entry of entries) {
      const player = players.get(entry.target);
      if (player) draw(player);
    }
  });

  function paint(player) {
    player.colours = groupColours(player);
    player.ink = colour(getComputedStyle(player.element), "ink");
    legend(player);
    draw(player);
  }

  function repaint() {
    for (const player of players.values()) paint(player);
  }

  // Shows a sequence (what motion() returns) in an element, instead of what it showed before.
  function show(element, data) {
    const player = { element, data, place: data.start || 0, speed: 1, turn: [0, 0], numbers: false, visible: true };
    player.points = decoded(data);
    player.absent = missing(data);
    player.extent = bounds(player.points, data.dims);
    player.moves = data.shape[0] > 1 && !player.extent.empty;
    element.classList.add("player");
    build(player);
    players.set(element, player);
    seen.observe(element);
    sized.observe(element);
    paint(player);
    play(player, data.playing && !matchMedia("(prefers-reduced-motion: reduce)").matches);
    return player;
  }

  function init(root = document) {
    for (const element of root.querySelectorAll(".player[data-motion]")) {
      const source = document.getElementById(element.dataset.motion);
      if (source && !players.has(element)) show(element, JSON.parse(source.textContent));
    }
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  return { init, show, repaint };
})();
