// Sort a table by the column whose header is clicked; numbers as numbers.
for (const header of document.querySelectorAll("th")) {
  header.tabIndex = 0;
  const sort = () => {
    const body = header.closest("table").tBodies[0];
    const ascending = header.ariaSort !== "ascending";
    const value = (row) => row.cells[header.cellIndex].textContent;
    const compare = (a, b) => parseFloat(a) - parseFloat(b) || a.localeCompare(b);
    const rows = [...body.rows].sort((a, b) => compare(value(a), value(b)) * (ascending ? 1 : -1));
    header.parentElement.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
    header.ariaSort = ascending ? "ascending" : "descending";
    body.append(...rows);
  };
  header.addEventListener("click", sort);
  header.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
}
