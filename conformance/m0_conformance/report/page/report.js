"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const NESTED = { "m0-wire": ["m0-wire"], "m0-process": ["m0-wire", "m0-process"], "m0": ["m0-wire", "m0-process", "m0"], "m1-preview": ["m1-preview"] };
  const FACETS = ["level", "status", "profile", "standing"];

  const requirements = all(".req").map((node) => ({
    node,
    id: node.id,
    summary: node.querySelector("summary"),
    head: node.querySelector("summary").textContent.toLowerCase(),
    clauses: all(".clause", node).map((clause) => ({
      node: clause,
      facts: clause.dataset,
      // Everything but transcripts and drawings: those would match half of all searches.
      text: all(":scope > header, :scope > p, .finding > h5, .finding > dl", clause).map((n) => n.textContent).join(" ").toLowerCase(),
    })),
  }));
  const cells = new Map(all(".cell").map((cell) => [cell.dataset.for, cell]));
  const facets = all(".facet");
  const filters = { level: new Set(), status: new Set(), profile: new Set(), standing: new Set(), q: "", only: false };

  /* Filters live in the URL's hash, so that a filtered view can be shared. */
  function hash() {
    const parts = FACETS.filter((f) => filters[f].size).map((f) => `${f}=${[...filters[f]].join(",")}`);
    if (filters.q) parts.push(`q=${encodeURIComponent(filters.q)}`);
    if (filters.only) parts.push("only=1");
    return parts.join("&");
  }
  function readHash(text) {
    for (const f of FACETS) filters[f].clear();
    filters.q = ""; filters.only = false;
    for (const pair of text.split("&")) {
      const at = pair.indexOf("="), name = pair.slice(0, at), value = pair.slice(at + 1);
      if (FACETS.includes(name)) for (const v of value.split(",").filter(Boolean)) filters[name].add(decode(v));
      if (name === "q") filters.q = decode(value);
      if (name === "only") filters.only = value === "1"; // this profile's own clauses, without those it includes
    }
    $("q").value = filters.q;
  }
  function decode(text) {
    try { return decodeURIComponent(text.replaceAll("+", " ")); } catch { return text; }
  }
  function matches(clause) {
    const { level, status, profile, standing } = filters;
    const inProfile = () => [...profile].some((p) => (filters.only ? [p] : NESTED[p] || []).includes(clause.facts.profile));
    return (!level.size || level.has(clause.facts.level)) && (!status.size || status.has(clause.facts.status)) &&
      (!profile.size || inProfile()) && (!standing.size || standing.has(clause.facts.standing));
  }
  function apply() {
    const needles = filters.q.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0, clauses = 0;
    for (const r of requirements) {
      let hits = 0;
      for (const c of r.clauses) {
        const hit = matches(c) && needles.every((n) => c.text.includes(n) || r.head.includes(n));
        c.node.classList.toggle("dim", !hit);
        hits += hit;
      }
      r.node.hidden = !hits;
      cells.get(r.id)?.classList.toggle("dim", !hits);
      shown += hits > 0; clauses += hits;
    }
    for (const button of facets) button.setAttribute("aria-pressed", filters[button.dataset.facet].has(button.dataset.value));
    const active = hash() !== "";
    const total = requirements.reduce((n, r) => n + r.clauses.length, 0);
    $("shown").textContent = active
      ? `${shown} of ${requirements.length} requirements, ${clauses} of ${total} clauses match`
      : `${requirements.length} requirements, ${total} clauses`;
    $("nothing").hidden = shown > 0;
    $("clear").disabled = !active;
  }
  function changed() {
    const h = hash();
    history.replaceState(null, "", h ? `#${h}` : location.pathname + location.search);
    apply();
  }
  function clear() {
    readHash("");
    changed();
  }

  /* A hash is a filter, a place in the page or a recorded exchange. */
  function arrive(scroll) {
    const text = location.hash.slice(1);
    if (/^(level|status|profile|standing|q|only)=/.test(text)) {
      readHash(text);
      apply();
      if (scroll) $("requirements").scrollIntoView();
      return;
    }
    const target = text && $(decode(text));
    if (!target) return;
    if (target.closest("#evidence .rec")) return void openTranscript(target.id);
    reveal(target);
  }
  function reveal(target) {
    const row = target.closest(".req");
    if (!row) return;
    if (row.hidden) clear();
    row.open = true;
    target.scrollIntoView({ block: target === row ? "start" : "nearest" });
    row.querySelector("summary").focus({ preventScroll: true });
  }

  /* The transcript opens beside the finding that points to it. */
  function openTranscript(anchor, event) {
    const source = $(anchor), record = source?.closest(".rec");
    if (!record) return;
    const copy = record.querySelector(".body").cloneNode(true);
    const own = source === record ? null : copy.querySelector(`[id="${CSS.escape(anchor)}"]`);
    $("drawer-title").textContent = record.querySelector("summary").textContent;
    $("drawer-body").replaceChildren(copy);
    $("drawer").showModal();
    const hit = own && event !== undefined ? own.querySelector(`[data-n="${CSS.escape(event)}"]`) : null;
    hit?.classList.add("hit");
    (hit || own || copy).scrollIntoView({ block: hit ? "center" : "start" });
    if (!own) $("drawer").scrollTop = 0;
    for (const node of all("[id]", copy)) node.removeAttribute("id");
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    if (link?.classList.contains("open")) {
      event.preventDefault();
      openTranscript(link.getAttribute("href").slice(1), link.dataset.event);
      return;
    }
    if (link && link.getAttribute("href") === location.hash) { // no hashchange will follow
      event.preventDefault();
      arrive(true);
      return;
    }
    const button = event.target.closest("button");
    if (!button) return;
    if (button.classList.contains("facet")) {
      const set = filters[button.dataset.facet], value = button.dataset.value;
      if (!set.delete(value)) set.add(value);
      filters.only = false;
      changed();
    } else if (button.classList.contains("copy")) {
      copyText(button.previousElementSibling.textContent, button.previousElementSibling);
    } else if (button.classList.contains("close-dialog")) {
      button.closest("dialog").close();
    }
  });
  async function copyText(text, node) {
    try {
      await navigator.clipboard.writeText(text);
      say("Copied");
    } catch {
      if (node) getSelection().selectAllChildren(node);
      say("Press Ctrl+C to copy");
    }
  }
  let quiet = 0;
  function say(text) {
    $("toast").textContent = text;
    clearTimeout(quiet);
    quiet = setTimeout(() => { $("toast").textContent = ""; }, 2500);
  }

  $("q").addEventListener("input", () => { filters.q = $("q").value.trim(); changed(); });
  $("tools").addEventListener("submit", (event) => event.preventDefault());
  $("clear").addEventListener("click", clear);
  $("clear2").addEventListener("click", clear);
  $("share").addEventListener("click", () => copyText(location.href));
  $("expand").addEventListener("click", () => {
    const visible = requirements.filter((r) => !r.node.hidden);
    const open = visible.some((r) => !r.node.open);
    for (const r of visible) r.node.open = open;
    $("expand").textContent = open ? "Close all shown" : "Open all shown";
  });

  /* Keys */
  function move(step) {
    const visible = requirements.filter((r) => !r.node.hidden);
    const here = document.activeElement?.closest?.(".req");
    const at = visible.findIndex((r) => r.node === here);
    const next = visible[at < 0 ? (step > 0 ? 0 : visible.length - 1) : Math.min(Math.max(at + step, 0), visible.length - 1)];
    next?.summary.focus();
    next?.summary.scrollIntoView({ block: "nearest" });
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const active = document.activeElement;
    if (active === $("q")) {
      if (event.key === "Escape") {
        event.preventDefault();
        if ($("q").value) { filters.q = $("q").value = ""; changed(); } else active.blur();
      } else if (event.key === "ArrowDown" || event.key === "Enter") {
        event.preventDefault();
        active.blur();
        move(1);
      }
      return;
    }
    const onRow = active?.matches?.(".req > summary");
    const step = { j: 1, k: -1, ArrowDown: onRow ? 1 : 0, ArrowUp: onRow ? -1 : 0 }[event.key];
    if (step) { event.preventDefault(); move(step); }
    else if (event.key === "/") { event.preventDefault(); $("q").focus(); $("q").select(); }
    else if (event.key === "?") { event.preventDefault(); $("keys").showModal(); }
    else if (event.key === "Escape") {
      const row = active?.closest?.(".req[open]");
      if (row) { row.open = false; row.querySelector("summary").focus(); }
    }
  });

  /* Hovering a lane names the moment under the pointer. */
  document.addEventListener("pointermove", (event) => {
    const svg = event.target.closest?.(".lane-svg");
    if (!svg) return;
    const box = svg.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    const at = share * Number(svg.dataset.span), own = at - Number(svg.dataset.offset);
    let cross = svg.querySelector(".cross");
    if (!cross) {
      for (const old of all(".cross", svg.closest(".tl"))) old.remove();
      cross = svg.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "path"));
      cross.setAttribute("class", "cross");
    }
    cross.setAttribute("d", `M${Math.round(share * 1000)} 0v72`);
    const points = svg.dataset.at ? svg.dataset.at.split(" ").map(Number) : [];
    const arrived = points.filter((p) => p <= own).length;
    const ms = (value) => (Math.abs(value) < 1000 ? `${value.toPrecision(3)} ms` : `${(value / 1000).toPrecision(4)} s`);
    svg.closest(".tl").querySelector(".readout").textContent =
      `${ms(at)}` + (points.length ? `: ${arrived} of ${points.length} ${svg.dataset.noun}s so far` : "");
  });

  /* Theme: the reader's choice, else the system's. */
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)");
  const stored = (() => { try { return localStorage.getItem("m0-report-theme"); } catch { return null; } })();
  if (stored === "light" || stored === "dark") root.dataset.theme = stored;
  const theme = () => root.dataset.theme || (dark.matches ? "dark" : "light");
  function label() { $("theme").textContent = theme() === "dark" ? "Light" : "Dark"; $("theme").setAttribute("aria-label", `Switch to ${theme() === "dark" ? "light" : "dark"} colours`); }
  $("theme").addEventListener("click", () => {
    root.dataset.theme = theme() === "dark" ? "light" : "dark";
    try { localStorage.setItem("m0-report-theme", root.dataset.theme); } catch { /* private window */ }
    label();
  });
  dark.addEventListener("change", label);

  /* Print what failed, opened; afterwards everything is as it was. */
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = all(".req.bad:not([open])").filter((row) => !row.hidden);
    for (const row of opened) row.open = true;
  });
  addEventListener("afterprint", () => { for (const row of opened) row.open = false; opened = []; });

  $("help").addEventListener("click", () => $("keys").showModal());
  for (const id of ["tools", "theme", "help"]) $(id).hidden = false;
  label();
  apply();
  // What is scrolled to must not hide under the tools while they stick to the top.
  function keepClearOfTools() {
    const sticks = getComputedStyle($("tools")).position === "sticky";
    root.style.scrollPaddingTop = sticks ? `${$("tools").offsetHeight + 8}px` : "1rem";
  }
  new ResizeObserver(keepClearOfTools).observe($("tools"));
  keepClearOfTools(); // the observer speaks later than the arrival below scrolls
  addEventListener("hashchange", () => arrive(true));
  arrive(location.hash !== "");
})();
