"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const collator = new Intl.Collator("en", { numeric: true });

  /* Tables: each keeps by which columns it was sorted, the last one last. */
  const sorted = {};

  const valueOf = (cell) => {
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    return cell.classList.contains("number") ? NaN : cell.textContent;
  };

  function compare(one, other, sign) {
    if (typeof one === "string") return sign * collator.compare(one, other);
    /* What has no number stands at the end, whichever way round. */
    if (isNaN(one) || isNaN(other)) return isNaN(one) - isNaN(other);
    return sign * (one - other);
  }

  function sort(table, column, direction) {
    const heads = [...table.tHead.rows[0].cells];
    if (!heads[column]) return;
    const sign = direction === "ascending" ? 1 : -1;
    const rows = [...table.tBodies[0].rows].map((row) => [valueOf(row.cells[column]), row]);
    rows.sort((one, other) => compare(one[0], other[0], sign));
    table.tBodies[0].append(...rows.map((pair) => pair[1]));
    heads.forEach((head, i) => head.setAttribute("aria-sort", i === column ? direction : "none"));
    const before = (sorted[table.id] || []).filter((pair) => pair[0] !== column);
    sorted[table.id] = [...before, [column, direction]];
  }

  for (const table of all("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = head.querySelector("button");
      button.disabled = false;
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") === "ascending";
        sort(table, column, up ? "descending" : "ascending");
      });
    });
  }

  /* Curves: a crosshair, with the values of its epoch in the table below. */
  const say = document.getElementById("say");
  const plots = {};
  let saying;

  function plot(section) {
    const data = JSON.parse(section.querySelector("script").textContent);
    const panels = section.querySelector(".panels");
    const charts = all("svg.chart", panels);
    const rows = all(".legend tbody tr", section);
    const points = [];
    for (let epoch = data.step; epoch < data.last; epoch += data.step) points.push(epoch);
    points.push(data.last);
    const end = points.length - 1;
    let at = end;

    const text = (value, panel) => {
      if (value === null) return "–";
      return panel.log ? value.toPrecision(3) : value.toFixed(2);
    };
    const x = (epoch) => data.left + (epoch / data.last) * (data.right - data.left);
    const y = (value, panel) => {
      const scale = panel.log ? (one) => Math.log(Math.max(one, panel.low)) : (one) => one;
      const [low, high] = [scale(panel.low), scale(panel.high)];
      return panel.bottom - ((scale(value) - low) / (high - low)) * (panel.bottom - panel.top);
    };

    function fill(row, i) {
      all("td.number", row).forEach((cell, p) => {
        const panel = data.panels[p];
        const [low, high] = (panel.range[i] || [[], []]).map((values) => values[at] ?? null);
        cell.querySelector("span").textContent = text(panel.mean[i][at], panel);
        cell.querySelector("small").textContent =
          low === null ? "" : `${text(low, panel)} – ${text(high, panel)}`;
      });
    }

    function mark(chart, panel) {
      const cursor = chart.querySelector(".cursor");
      cursor.querySelector("path").setAttribute(
        "d", `M${x(points[at])} ${panel.top}V${panel.bottom}`);
      all("circle", cursor).forEach((dot, i) => {
        const value = panel.mean[i][at];
        const place = value === null ? -1 : y(value, panel);
        dot.classList.toggle("away", !(place >= panel.top - 1));
        dot.setAttribute("cx", x(points[at]));
        dot.setAttribute("cy", place);
      });
    }

    /* Beside the pointer the table may be out of sight. */
    function read(chart, panel, visible) {
      const box = chart.parentNode.querySelector(".readout");
      if (!box) return;
      box.hidden = !visible;
      if (!visible) return;
      const head = document.createElement("b");
      head.textContent = `epoch ${points[at]}`;
      const lines = rows.map((row, i) => {
        if (!row.querySelector("input").checked) return "";
        const [line, label, value] = ["div", "bdi", "span"].map(
          (tag) => document.createElement(tag));
        label.textContent = row.querySelector("bdi").textContent;
        value.textContent = text(panel.mean[i][at], panel);
        line.append(row.querySelector(".sample").cloneNode(true), label, value);
        return line;
      });
      box.replaceChildren(head, ...lines);
    }

    function show(place, visible) {
      at = Math.max(0, Math.min(end, place));
      section.querySelector(".legend .epoch").textContent = points[at];
      panels.setAttribute("aria-valuenow", points[at]);
      panels.setAttribute("aria-valuetext", `epoch ${points[at]}`);
      rows.forEach(fill);
      charts.forEach((chart, p) => {
        mark(chart, data.panels[p]);
        chart.querySelector(".cursor").classList.toggle("shown", visible);
        read(chart, data.panels[p], visible);
      });
    }

    function speak() {
      clearTimeout(saying);
      saying = setTimeout(() => {
        const heads = all(".legend thead th.number", section).map((head) => head.textContent);
        const lines = rows
          .filter((row) => row.querySelector("input").checked)
          .map((row) => {
            const values = all("td.number span", row)
              .map((cell, p) => `${heads[p]} ${cell.textContent}`);
            return `${row.querySelector("bdi").textContent}: ${values.join(", ")}`;
          });
        say.textContent = `Epoch ${points[at]}. ${lines.join(". ")}.`;
      }, 150);
    }

    for (const chart of charts) {
      const follow = (event) => {
        const box = chart.getBoundingClientRect();
        const place = ((event.clientX - box.left) / box.width) * data.width;
        const epoch = ((place - data.left) / (data.right - data.left)) * data.last;
        const before = Math.max(0, Math.min(end, Math.floor(epoch / data.step) - 1));
        const after = Math.min(end, before + 1);
        show(epoch - points[before] < points[after] - epoch ? before : after, true);
      };
      chart.addEventListener("pointermove", follow);
      chart.addEventListener("pointerdown", follow);
      chart.addEventListener("pointerleave", (event) => {
        /* A finger leaves when it is lifted; what it has pointed at is to be read then. */
        if (event.pointerType === "mouse") show(end, false);
      });
    }

    const far = Math.max(1, Math.round(points.length / 10));
    const moves = {
      ArrowLeft: () => at - 1, ArrowDown: () => at - 1, PageDown: () => at - far, Home: () => 0,
      ArrowRight: () => at + 1, ArrowUp: () => at + 1, PageUp: () => at + far, End: () => end,
    };
    panels.tabIndex = 0;
    panels.setAttribute("role", "slider");
    panels.setAttribute("aria-label", `Epoch of the curves of ${
      section.querySelector("h3").textContent}`);
    panels.setAttribute("aria-valuemin", points[0]);
    panels.setAttribute("aria-valuemax", data.last);
    panels.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey || !moves[event.key]) return;
      event.preventDefault();
      show(moves[event.key](), true);
      speak();
    });
    panels.addEventListener("focus", () => {
      if (panels.matches(":focus-visible")) show(at, true);
    });
    panels.addEventListener("blur", () => show(end, false));

    rows.forEach((row, i) => {
      const box = row.querySelector("input");
      const toggle = () => {
        for (const part of all(`[data-group="${i}"]`, panels)) {
          part.classList.toggle("off", !box.checked);
        }
      };
      box.hidden = false;
      box.addEventListener("change", toggle);
      /* Browsers keep what was unchecked when a page is loaded again. */
      toggle();
    });
    const every = section.querySelector(".legend .all");
    every.hidden = false;
    every.addEventListener("change", () => rows.forEach((row) => {
      const box = row.querySelector("input");
      box.checked = every.checked;
      box.dispatchEvent(new Event("change"));
    }));
    show(end, false);
    plots[panels.id] = {
      epoch: () => points[at],
      go: (epoch) => {
        const place = points.findIndex((point) => point >= epoch);
        show(place < 0 ? end : place, true);
      },
    };
  }
  all("section.curves").forEach(plot);

  /* A link to a training opens it. */
  function open() {
    let target = null;
    try {
      target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    } catch { /* not one of ours */ }
    if (target && target.tagName === "DETAILS") {
      target.open = true;
      target.scrollIntoView();
    }
  }
  addEventListener("hashchange", open);

  /* What the reader has done stays when the page is loaded again. */
  const key = `dmr compare ${location.pathname}`;
  const live = document.getElementById("live");
  const pause = document.getElementById("pause");
  let paused = false;
  if (pause) pause.hidden = false;

  function keep() {
    const focus = document.activeElement;
    const state = {
      sorted,
      paused,
      y: scrollY,
      open: all("details[open]").map((one) => one.id),
      off: all(".legend tbody input:not(:checked)").map((box) => box.id),
      across: all(".scroll").map((box) => [box.id, box.scrollLeft]).filter((pair) => pair[1]),
      focus: focus ? focus.id : "",
      epoch: focus && plots[focus.id] ? plots[focus.id].epoch() : null,
    };
    try {
      sessionStorage.setItem(key, JSON.stringify(state));
    } catch { /* a browser that keeps nothing */ }
  }

  function restore() {
    let state = null;
    try {
      state = JSON.parse(sessionStorage.getItem(key));
    } catch { /* a browser that keeps nothing */ }
    const [entry] = performance.getEntriesByType("navigation");
    if (!state || !entry || entry.type !== "reload") return false;
    const find = (id) => document.getElementById(id);
    for (const [id, columns] of Object.entries(state.sorted)) {
      if (find(id)) columns.forEach(([column, direction]) => sort(find(id), column, direction));
    }
    state.open.map(find).forEach((one) => { if (one) one.open = true; });
    state.off.map(find).forEach((box) => {
      if (box) {
        box.checked = false;
        box.dispatchEvent(new Event("change"));
      }
    });
    history.scrollRestoration = "manual";
    scrollTo(0, state.y);
    for (const [id, left] of state.across) if (find(id)) find(id).scrollLeft = left;
    const focus = state.focus && find(state.focus);
    if (focus) focus.focus({ preventScroll: true });
    if (focus && state.epoch && plots[focus.id]) plots[focus.id].go(state.epoch);
    paused = state.paused;
    return true;
  }

  addEventListener("pagehide", keep);
  if (!restore()) open();

  if (live) {
    let timer;
    const wait = () => {
      clearTimeout(timer);
      pause.setAttribute("aria-pressed", paused);
      if (!paused) timer = setTimeout(() => location.reload(), 1000 * live.dataset.seconds);
    };
    pause.addEventListener("click", () => {
      paused = !paused;
      wait();
    });
    wait();
  }
})();
