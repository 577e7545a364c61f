// Blocks and tables that scroll sideways can be reached, and scrolled, with the keyboard.
function reachScrollingBlocks() {
  for (const block of document.querySelectorAll("article pre, .table-wrapper")) {
    if (block.scrollWidth > block.clientWidth) block.tabIndex = 0;
    else block.removeAttribute("tabindex");
  }
}
window.addEventListener("DOMContentLoaded", reachScrollingBlocks);
window.addEventListener("resize", reachScrollingBlocks);
