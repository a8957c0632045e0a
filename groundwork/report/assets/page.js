// Figures that say their numbers, tables that sort, and commands that can be copied.
(() => {
  'use strict';

  const CONFIG = {
    background: null, font: 'system-ui, sans-serif', padding: 4, autosize: { type: 'fit-x', contains: 'padding' },
    aria: false, view: { stroke: null },
    title: { color: 'var(--ink)', fontWeight: 600, fontSize: 13, anchor: 'start' },
    text: { color: 'var(--ink)', fontSize: 11 },
    axis: {
      labelColor: 'var(--soft)', titleColor: 'var(--ink)', titleFontWeight: 400, titleFontSize: 12,
      labelFontSize: 11, gridColor: 'var(--rule)', domainColor: 'var(--soft)', tickColor: 'var(--soft)',
      labelLimit: 150, titlePadding: 8,
    },
  };
  const SYMBOLS = {
    circle: '<circle cx="14" cy="6" r="3.5"/>', square: '<rect x="10.5" y="2.5" width="7" height="7"/>',
    diamond: '<path d="M14 1.5 18.5 6 14 10.5 9.5 6Z"/>', cross: '<path d="M12.5 2h3v2.5H18v3h-2.5V10h-3V7.5H10v-3h2.5Z"/>',
    'triangle-up': '<path d="M14 2 18 10H10Z"/>', 'triangle-down': '<path d="M14 10 18 2H10Z"/>',
    'triangle-left': '<path d="M10 6 18 2V10Z"/>', 'triangle-right': '<path d="M18 6 10 2V10Z"/>',
  };

  // How a series looks, as in the figure.
  const swatch = (look) => {
    const line = look.dash
      ? `<path d="M1 6H27" fill="none" stroke="${look.colour}" stroke-width="2" stroke-dasharray="${look.dash.join(' ')}"/>` : '';
    const point = look.point ? `<g fill="${look.fill}" stroke="${look.colour}">${SYMBOLS[look.shape] || SYMBOLS.circle}</g>` : '';
    return `<svg width="28" height="12" viewBox="0 0 28 12" aria-hidden="true">${line}${point}</svg>`;
  };

  // A button that switches a series on and off.
  const seriesButton = (label, look, switched) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.innerHTML = swatch(look);
    button.append(label);
    button.setAttribute('aria-pressed', 'true');
    button.addEventListener('click', () => {
      const on = button.getAttribute('aria-pressed') !== 'true';
      button.setAttribute('aria-pressed', String(on));
      switched(on);
    });
    return button;
  };
  window.chartConfig = CONFIG;
  window.seriesButton = seriesButton;

  const legend = (place, panels, views) => {
    const known = new Map();
    for (const panel of panels)
      for (const look of panel.usermeta.series) if (look.label && !known.has(look.name)) known.set(look.name, look);
    if (known.size < 2) return;
    const hidden = new Set();
    for (const [name, look] of known)
      place.append(seriesButton(look.label, look, (on) => {
        on ? hidden.delete(name) : hidden.add(name);
        for (const view of views) view.signal('hidden', [...hidden]).run();
      }));
  };

  for (const figure of document.querySelectorAll('figure.chart')) {
    const panels = JSON.parse(figure.querySelector('script').textContent);
    const views = [];
    figure.querySelectorAll('.panel > div').forEach((place, number) => {
      const options = { actions: false, renderer: 'svg', config: CONFIG, tooltip: { theme: 'custom' } };
      vegaEmbed(place, panels[number], options).then((made) => views.push(made.view));
    });
    legend(figure.querySelector('.legend'), panels, views);
  }

  // 0.776±0.010 and 266,610 are numbers; what is none comes last.
  const value = (cell) => {
    const text = cell.textContent.replace(/,/g, '').trim();
    const number = parseFloat(text);
    return Number.isNaN(number) ? text : number;
  };
  const compare = (a, b) => {
    if (typeof a === typeof b) return typeof a === 'number' ? a - b : a.localeCompare(b, 'en', { numeric: true });
    return typeof a === 'number' ? -1 : 1;
  };

  for (const table of document.querySelectorAll('table')) {
    const body = table.tBodies[0];
    const first = [...body.rows];
    table.querySelectorAll('thead th').forEach((head, column) => {
      head.querySelector('button')?.addEventListener('click', () => {
        const before = head.getAttribute('aria-sort');
        const order = before === 'ascending' ? 'descending' : before === 'descending' ? null : 'ascending';
        table.querySelectorAll('thead th').forEach((other) => other.removeAttribute('aria-sort'));
        if (order) head.setAttribute('aria-sort', order);
        const sign = order === 'descending' ? -1 : 1;
        const rows = order
          ? [...first].sort((a, b) => {
              const [x, y] = [a, b].map((row) => value(row.cells[column]));
              if (x === '' || y === '') return (x === '') - (y === '');
              return sign * compare(x, y);
            })
          : first;
        body.append(...rows);
      });
    });
  }

  for (const button of document.querySelectorAll('.command button')) {
    button.addEventListener('click', async () => {
      const text = button.parentElement.querySelector('pre').textContent;
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = 'Copied';
      } catch {
        getSelection().selectAllChildren(button.parentElement.querySelector('pre'));
        button.textContent = 'Selected: press Ctrl+C';
      }
      setTimeout(() => { button.textContent = 'Copy'; }, 2000);
    });
  }
})();
