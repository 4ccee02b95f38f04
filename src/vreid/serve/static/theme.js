// Runs before the page is drawn, so that a chosen theme does not flash.
document.documentElement.classList.add("scripted");
try {
  const theme = localStorage.getItem("theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch { /* storage is blocked: the theme of the system applies */ }
