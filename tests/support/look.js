() => {
  const faults = [];
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) faults.push(`scrolls sideways: ${root.scrollWidth} > ${root.clientWidth} px`);

  for (const section of document.querySelectorAll("section")) {
    const box = section.getBoundingClientRect();
    if (box.width < 200 || box.height < 40 || !section.checkVisibility()) faults.push(`section #${section.id} is not visible`);
  }
  for (const image of document.querySelectorAll("img")) {
    if (!image.complete || !image.naturalWidth) faults.push(`picture without content: ${image.alt}`);
    const box = image.getBoundingClientRect();
    if (Math.abs(box.width / box.height - image.naturalWidth / image.naturalHeight) > 0.05) faults.push(`distorted: ${image.alt}`);
    if (!image.alt) faults.push("picture without alternative text");
  }
  for (const drawing of document.querySelectorAll("svg")) {
    const named = drawing.getAttribute("role") === "img" && drawing.getAttribute("aria-label");
    if (!named && !drawing.closest("[aria-hidden], [role=img]")) faults.push("drawing without a name");
  }

  const numbers = (colour) => (colour.match(/[\d.]+/g) || []).map(Number);
  const opaque = (colour) => { const [, , , alpha = 1] = numbers(colour); return alpha > 0.99; };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (opaque(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const light = (colour) => {
    const [red, green, blue] = numbers(colour).map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const contrast = (one, other) => {
    const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };

  const pieces = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement;
    if (!node.textContent.trim() || parent.closest("title, style, .hidden") || !parent.checkVisibility()) continue;
    const style = getComputedStyle(parent), words = node.textContent.trim().slice(0, 40);
    const size = parseFloat(style.fontSize), svg = parent instanceof SVGElement;
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 600);
    const found = contrast(svg ? style.fill : style.color, ground(parent));
    if (found < (large ? 3 : 4.5)) faults.push(`contrast ${found.toFixed(2)}: "${words}"`);
    if (size < 11.5) faults.push(`only ${size} px: "${words}"`);
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const box of range.getClientRects()) {
      if (box.width && box.height) pieces.push({ box, words, node });
    }
    const holder = parent.closest("section, header, footer, .facts > div");
    if (holder) {
      const bounds = holder.getBoundingClientRect(), whole = range.getBoundingClientRect();
      if (whole.left < bounds.left - 0.5 || whole.right > bounds.right + 0.5) faults.push(`sticks out: "${words}"`);
    }
    for (let at = parent; at && at !== document.body; at = at.parentElement) {
      if (getComputedStyle(at).overflowX === "visible") continue;
      const bounds = at.getBoundingClientRect(), whole = range.getBoundingClientRect();
      if (whole.right > bounds.right + 0.5 || whole.bottom > bounds.bottom + 0.5) faults.push(`clipped: "${words}"`);
    }
  }
  pieces.sort((a, b) => a.box.top - b.box.top);
  pieces.forEach((one, place) => {
    for (let next = place + 1; next < pieces.length && pieces[next].box.top < one.box.bottom - 3; next += 1) {
      const other = pieces[next];
      if (other.node === one.node) continue;
      const wide = Math.min(one.box.right, other.box.right) - Math.max(one.box.left, other.box.left);
      const high = Math.min(one.box.bottom, other.box.bottom) - other.box.top;
      if (wide > 1 && high > 3) faults.push(`"${one.words}" overlaps "${other.words}"`);
    }
  });
  return [...new Set(faults)];
}
