'use strict';
// Sorting, filtering and the theme button. The page is whole without it.
(function () {
  const root = document.documentElement;
  root.classList.add('scripted');

  const kept = { get() { try { return localStorage.getItem('trainyard-theme'); } catch { return null; } },
                 set(v) { try { localStorage.setItem('trainyard-theme', v); } catch { /* private window */ } } };
  const button = document.getElementById('theme');
  const names = { auto: 'Theme: auto', light: 'Theme: light', dark: 'Theme: dark' };
  function theme(name) {
    if (name === 'auto') root.removeAttribute('data-theme'); else root.setAttribute('data-theme', name);
    button.textContent = names[name];
  }
  let current = kept.get() in names ? kept.get() : 'auto';
  theme(current);
  button.hidden = false;
  button.addEventListener('click', () => {
    current = { auto: 'light', light: 'dark', dark: 'auto' }[current];
    theme(current);
    kept.set(current);
  });

  // A cell's sort value: its data-v as a number, else its text; a cell below a spanning one counts as empty.
  function value(row, column) {
    let at = 0;
    for (const cell of row.cells) {
      if (at === column && cell.colSpan === 1) {
        return cell.dataset.v !== undefined ? Number(cell.dataset.v) : cell.classList.contains('n') || cell.classList.contains('diff') ? null : cell.textContent.trim().toLowerCase();
      }
      at += cell.colSpan;
      if (at > column) return null;
    }
    return null;
  }
  for (const table of document.querySelectorAll('table.sortable')) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const press = document.createElement('button');
      press.type = 'button';
      press.append(...head.childNodes);
      head.append(press);
      press.addEventListener('click', () => {
        const down = head.getAttribute('aria-sort') === 'ascending';
        heads.forEach((h) => h.removeAttribute('aria-sort'));
        head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
        const body = table.tBodies[0];
        const rows = []; // a row that explains the one above it goes where that one goes
        for (const row of body.rows) {
          if (row.classList.contains('sub') && rows.length) rows[rows.length - 1].push(row);
          else rows.push([value(row, column), row]);
        }
        rows.sort(([a], [b]) => {
          const empty = (a === null || a === '') - (b === null || b === '');
          if (empty) return empty;
          const order = typeof a === 'number' && typeof b === 'number' ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
          return down ? -order : order;
        });
        body.append(...rows.flatMap(([, ...group]) => group));
      });
    });
  }

  for (const input of document.querySelectorAll('input[data-filter]')) {
    const body = document.getElementById(input.dataset.filter).tBodies[0];
    input.addEventListener('input', () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let text = '';
      for (const row of [...body.rows].reverse()) {
        text += ' ' + row.textContent.toLowerCase();
        if (row.classList.contains('sub')) continue;
        const hide = !words.every((w) => text.includes(w));
        row.hidden = hide;
        if (row.nextElementSibling && row.nextElementSibling.classList.contains('sub')) row.nextElementSibling.hidden = hide;
        text = '';
      }
    });
  }

  const links = [...document.querySelectorAll('.side a')];
  const seen = new IntersectionObserver((entries) => {
    for (const e of entries) {
      if (!e.isIntersecting) continue;
      for (const a of links) a.classList.toggle('here', a.hash === '#' + e.target.id);
    }
  }, { rootMargin: '-10% 0px -80% 0px' });
  document.querySelectorAll('section[id]').forEach((s) => seen.observe(s));

  addEventListener('beforeprint', () => document.querySelectorAll('details').forEach((d) => { d.open = true; }));
})();
