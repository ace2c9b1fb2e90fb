// Lays the three pictures of a case on each other and lets a slider wipe from one to the next.
"use strict";

const MIDDLE = 100; // of the slider: from here on the prediction wipes over the truth
const STEP = 10; // of an arrow key

function seen(value) {
  if (value === 0) return "image";
  if (value === MIDDLE) return "truth";
  if (value === 2 * MIDDLE) return "prediction";
  return value < MIDDLE
    ? `truth on the left ${value} % of the image`
    : `prediction on the left ${value - MIDDLE} % of the truth`;
}

function enliven(figure) {
  const view = figure.querySelector(".view");
  const slider = figure.querySelector("input");
  const stops = [...figure.querySelectorAll(".stops button")];

  function show(wanted) {
    const value = Math.round(Math.min(Math.max(wanted, 0), 2 * MIDDLE));
    const wiped = value > MIDDLE ? value - MIDDLE : value;
    slider.value = value;
    slider.setAttribute("aria-valuetext", seen(value));
    view.style.setProperty("--truth", `${Math.min(value, MIDDLE)}%`);
    view.style.setProperty("--prediction", `${Math.max(value - MIDDLE, 0)}%`);
    view.style.setProperty("--edge", `${wiped}%`);
    view.style.setProperty("--wiping", value % MIDDLE ? 1 : 0);
    stops.forEach((stop, index) => stop.classList.toggle("here", value === index * MIDDLE));
  }

  function follow(event) {
    const box = view.getBoundingClientRect();
    show(((event.clientX - box.left) / box.width) * 2 * MIDDLE);
  }

  slider.addEventListener("input", () => show(Number(slider.value)));
  slider.addEventListener("keydown", (event) => {
    const moves = { ArrowRight: STEP, ArrowUp: STEP, ArrowLeft: -STEP, ArrowDown: -STEP };
    const leaps = { PageUp: MIDDLE, PageDown: -MIDDLE };
    const move = moves[event.key] ?? leaps[event.key];
    if (move === undefined) return;
    event.preventDefault();
    show(Number(slider.value) + move);
  });
  stops.forEach((stop, index) => stop.addEventListener("click", () => show(index * MIDDLE)));
  view.addEventListener("pointerdown", (event) => {
    view.setPointerCapture(event.pointerId);
    follow(event);
  });
  view.addEventListener("pointermove", (event) => {
    if (view.hasPointerCapture(event.pointerId)) follow(event);
  });

  figure.querySelector(".control").hidden = false;
  figure.classList.add("live");
  show(2 * MIDDLE);
}

document.querySelectorAll(".case").forEach(enliven);
