"use strict";
// What makes a report respond: it only shows, hides and sorts what is in the page, and asks for nothing else.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const root = document.documentElement;

  const made = (tag, text, properties = {}) => Object.assign(document.createElement(tag), { textContent: text }, properties);

  function theme() {
    const button = document.getElementById("theme");
    const choices = ["auto", "light", "dark"];
    button.hidden = false;
    button.addEventListener("click", () => {
      const next = choices[(choices.indexOf(root.dataset.theme ?? "auto") + 1) % choices.length];
      if (next === "auto") delete root.dataset.theme;
      else root.dataset.theme = next;
      button.textContent = `theme: ${next}`;
    });
  }

  // One box for all tips; its text is set as text, so that nothing in it is markup.
  function tips() {
    const box = made("div", "", { id: "tip", hidden: true });
    box.setAttribute("role", "tooltip");
    document.body.append(box);
    const hide = () => { box.hidden = true; };
    const show = (target) => {
      box.textContent = target.dataset.tip;
      box.hidden = false;
      const place = (target.querySelector(".dot") ?? target).getBoundingClientRect();
      const left = Math.min(Math.max(8, place.left), root.clientWidth - box.offsetWidth - 8);
      const below = place.bottom + 8 + box.offsetHeight < root.clientHeight;
      box.style.left = `${left + scrollX}px`;
      box.style.top = `${(below ? place.bottom + 8 : Math.max(0, place.top - box.offsetHeight - 8)) + scrollY}px`;
    };
    for (const kind of ["pointerover", "focusin"]) {
      document.addEventListener(kind, (event) => {
        const target = event.target.closest?.("[data-tip]");
        if (target) show(target);
        else if (kind === "focusin" || !document.activeElement?.dataset?.tip) hide();
      });
    }
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  }

  // Arrow keys move among the marks of a figure; Tab enters and leaves it.
  function marks() {
    for (const group of all("[data-marks]")) {
      const shown = () => all("[data-tip]", group).filter((mark) => !mark.hasAttribute("hidden"));
      const settle = (mark) => all("[data-tip]", group).forEach((each) => each.setAttribute("tabindex", each === mark ? 0 : -1));
      if (shown().length) settle(shown()[0]);
      group.addEventListener("keydown", (event) => {
        const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
        const marks = shown();
        const place = marks.indexOf(document.activeElement);
        if (!step || place < 0) return;
        event.preventDefault();
        const next = marks[Math.min(Math.max(0, place + step), marks.length - 1)];
        settle(next);
        next.focus();
      });
      group.addEventListener("filtered", () => { if (shown().length) settle(shown()[0]); });
    }
  }

  const order = new Intl.Collator("en", { numeric: true });
  function sorting() {
    for (const button of all("thead button")) {
      button.addEventListener("click", () => {
        const header = button.closest("th");
        const table = header.closest("table");
        const column = [...header.parentNode.children].indexOf(header);
        const down = header.getAttribute("aria-sort") === "ascending";
        all("th[aria-sort]", table).forEach((each) => each.setAttribute("aria-sort", "none"));
        header.setAttribute("aria-sort", down ? "descending" : "ascending");
        const key = (row) => row.children[column].dataset.value ?? row.children[column].textContent.trim();
        const compare = (a, b) => {
          const [x, y] = [key(a), key(b)];
          const [u, v] = [parseFloat(x), parseFloat(y)];
          if (Number.isNaN(u) || Number.isNaN(v)) {
            if (Number.isNaN(u) !== Number.isNaN(v)) return Number.isNaN(u) ? 1 : -1; // without a number: last
            return (down ? -1 : 1) * order.compare(x, y);
          }
          return (down ? -1 : 1) * (u - v || 0);
        };
        const body = table.tBodies[0];
        body.append(...[...body.rows].sort(compare));
      });
    }
  }

  // A menu for each label that rows of the forest differ in.
  function filters() {
    for (const figure of all("figure.forest")) {
      const rows = all(".row", figure);
      const controls = figure.querySelector(".controls");
      const menus = JSON.parse(figure.dataset.labels).map(([label, words, chosen]) => {
        const values = [...new Set(rows.map((row) => row.dataset[label]).filter(Boolean))];
        const menu = made("select", "");
        menu.append(made("option", "all", { value: "" }), ...values.map((value) => made("option", value, { value })));
        menu.value = chosen;
        const named = made("label", `${words} `);
        named.append(menu);
        controls.append(named);
        menu.addEventListener("change", lay);
        return [label, menu];
      });
      function lay() {
        const wanted = (row) => menus.every(([label, menu]) => !menu.value || !row.dataset[label] || row.dataset[label] === menu.value);
        const kept = new Set(rows.filter((row) => row.dataset.tip && wanted(row)));
        const domains = new Set([...kept].map((row) => row.dataset.domain));
        let place = 0;
        for (const row of rows) {
          const hidden = row.dataset.tip ? !kept.has(row) : !domains.has(row.dataset.domain);
          row.toggleAttribute("hidden", hidden);
          if (!hidden) row.style.setProperty("--i", place++);
        }
        figure.style.setProperty("--rows", place);
        figure.dispatchEvent(new Event("filtered"));
        figure.querySelector("[data-marks]")?.dispatchEvent(new Event("filtered"));
      }
      if (menus.length) lay();
    }
  }

  const RAMP = [[0, 34, 78], [67, 78, 108], [125, 124, 120], [188, 175, 111], [254, 232, 56]]; // cividis
  function shade(share) {
    const place = Math.min(Math.max(0, share), 1) * (RAMP.length - 1);
    const [low, high] = [RAMP[Math.floor(place)], RAMP[Math.ceil(place)]];
    return `rgb(${low.map((value, i) => Math.round(value + (high[i] - value) * (place - Math.floor(place)))).join(" ")})`;
  }

  // Points are coloured by what they are labelled with, or by the value of a parameter.
  function colours() {
    for (const figure of all("figure[data-colours]")) {
      const data = (name) => JSON.parse(figure.querySelector(`script.${name}`).textContent);
      const [labels, parameters] = [data("labels"), data("parameters")];
      const [first, ...others] = Object.keys(labels);
      const points = all("circle[data-at]", figure);
      const menu = made("select", "");
      menu.append(made("option", first, { value: "" }));
      menu.append(...others.map((name) => made("option", name, { value: `label:${name}` })));
      menu.append(...Object.keys(parameters).map((name) => made("option", name)));
      const named = made("label", "colour by ");
      const scale = made("span", "", { hidden: true });
      named.append(menu);
      figure.querySelector(".controls").append(named, scale);
      const sample = (text, place) => {
        const box = made("span", text, { className: "legend" });
        box.prepend(made("span", "", { className: "sample", style: `background: var(--c${place % 7})` }));
        return box;
      };
      menu.addEventListener("change", () => {
        const label = labels[menu.value.replace("label:", "")];
        const values = parameters[menu.value];
        figure.querySelector(".samples")?.toggleAttribute("hidden", menu.value !== "");
        scale.hidden = menu.value === "";
        let paint = () => null;
        if (values) {
          const known = values.filter((value) => value !== null);
          const [low, high] = [Math.min(...known), Math.max(...known)];
          scale.replaceChildren(`${low} `, made("span", "", { className: "ramp" }), ` ${high}`);
          paint = (at) => values[at] === null ? "transparent" : shade(high > low ? (values[at] - low) / (high - low) : 0.5);
        } else if (label) {
          const known = [...new Set(label)];
          scale.replaceChildren(...known.map(sample));
          paint = (at) => `var(--c${known.indexOf(label[at]) % 7})`;
        }
        for (const point of points) {
          const fill = paint(point.dataset.at);
          if (fill === null) point.style.removeProperty("fill");
          else point.style.setProperty("fill", fill, "important");
        }
      });
    }
  }

  // The set that is drawn across: their mean, or one domain.
  function domains() {
    for (const figure of all("figure[data-domains]")) {
      const places = JSON.parse(figure.querySelector("script.places").textContent);
      const menu = made("select", "");
      menu.append(...Object.keys(places).map((name) => made("option", name)));
      const named = made("label", "out of domain ");
      named.append(menu);
      figure.querySelector(".controls").append(named);
      menu.addEventListener("change", () => {
        for (const mark of all("[data-at]", figure)) {
          const place = places[menu.value][mark.dataset.at];
          mark.toggleAttribute("hidden", place === null);
          if (place !== null) mark.setAttribute(mark.tagName === "text" ? "y" : "cy", `${place}%`);
        }
      });
    }
  }

  function copying() {
    for (const block of all("pre")) {
      const text = block.textContent;
      const button = made("button", "copy", { type: "button" });
      button.addEventListener("click", async () => {
        try {
          await navigator.clipboard.writeText(text.trim());
          button.textContent = "copied";
        } catch {
          getSelection().selectAllChildren(block.querySelector("code") ?? block);
          button.textContent = document.execCommand("copy") ? "copied" : "selected";
        }
        setTimeout(() => { button.textContent = "copy"; }, 1500);
      });
      block.append(button);
    }
  }

  function unfolding() {
    const reveal = () => {
      const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
      if (target?.tagName === "DETAILS") target.open = true;
    };
    addEventListener("hashchange", reveal);
    reveal();
    let opened = [];
    addEventListener("beforeprint", () => {
      opened = all("details.section:not([open])");
      opened.forEach((each) => { each.open = true; });
    });
    addEventListener("afterprint", () => opened.forEach((each) => { each.open = false; }));
  }

  for (const part of [theme, tips, marks, sorting, filters, colours, domains, copying, unfolding]) part();
})();
