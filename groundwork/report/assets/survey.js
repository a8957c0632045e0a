// Networks of many runs: axes that are chosen, a filter, the Pareto front, the table to take away.
(() => {
  'use strict';
  const figure = document.querySelector('figure.survey');
  const form = document.querySelector('form.controls');
  const { records, signs, words } = JSON.parse(figure.querySelector('script').textContent);
  const place = figure.querySelector('.panel > div');
  const body = document.querySelector('table').tBodies[0];
  const rows = [...body.rows];
  const COLOURS = ['#1f5fb4', '#d1622b', '#009e73', '#e07bc0', '#b5891b', '#56b4e9', '#882255', '#7f7f7f'];
  const SHAPES = ['circle', 'square', 'triangle-up', 'diamond', 'cross', 'triangle-down'];
  const runs = [...new Set(records.map((record) => record.run))];
  const hidden = new Set();

  const found = () => {
    const wanted = form.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    return records.map((record, number) => {
      const text = rows[number].textContent.toLowerCase();
      return !hidden.has(record.run) && wanted.every((word) => text.includes(word));
    });
  };

  // Those that no other beats: fewer of x (more, if x is a measure), and better in y.
  const front = (points, x, y) => {
    const [sx, sy] = [signs[x] || (x.endsWith('_mean') ? 1 : -1), signs[y] || (y.endsWith('_mean') ? 1 : -1)];
    const order = [...points].sort((a, b) => sx * (b.x - a.x) || sy * (b.y - a.y));
    const kept = [];
    for (const point of order)
      if (!kept.length || sy * (point.y - kept.at(-1).y) > 0) kept.push(point);
    return kept;
  };

  const shown = (number) => (Number.isInteger(number) ? number.toLocaleString('en') : Number(number.toPrecision(5)).toString());

  let drawing = Promise.resolve();
  const draw = () => {
    const [x, y] = [form.x.value, form.y.value];
    const kept = found();
    rows.forEach((row, number) => { row.hidden = !kept[number]; });
    const points = [];
    records.forEach((record, number) => {
      if (!kept[number] || typeof record[x] !== 'number' || typeof record[y] !== 'number') return;
      const spread = (field) => record[field.replace(/_mean$/, '_deviation')] || 0;
      const [dx, dy] = [x, y].map((field) => (field.endsWith('_mean') ? spread(field) : 0));
      points.push({
        run: record.run, network: rows[number].cells[1].textContent,
        x: record[x], y: record[y], xs: shown(record[x]), ys: shown(record[y]) + (dy ? `±${shown(dy)}` : ''),
        left: record[x] - dx, right: record[x] + dx, low: record[y] - dy, high: record[y] + dy,
      });
    });
    const log = form.log.checked && points.every((point) => point.x > 0);
    const scale = { type: log ? 'log' : 'linear', zero: false, nice: false, padding: 12 };
    const whole = points.length && points.every((point) => Number.isInteger(point.x));
    const axes = {
      x: { field: 'x', type: 'quantitative', scale, axis: { title: words[x], format: whole ? '~s' : '~g', labelOverlap: true } },
      y: { field: 'y', type: 'quantitative', scale: { zero: false, padding: 10 }, axis: { title: words[y] } },
    };
    const run = (range) => ({ field: 'run', type: 'nominal', legend: null, scale: { type: 'ordinal', domain: runs, range: runs.map((_, k) => range[k % range.length]) } });
    const rule = (more) => ({ mark: { type: 'rule', opacity: 0.5 }, encoding: { ...axes, color: run(COLOURS), ...more } });
    const layer = [
      rule({ y: { ...axes.y, field: 'low' }, y2: { field: 'high' } }),
      rule({ x: { ...axes.x, field: 'left' }, x2: { field: 'right' } }),
      {
        mark: { type: 'point', filled: true, size: 60 },
        encoding: {
          ...axes, color: run(COLOURS), shape: run(SHAPES),
          tooltip: [
            { field: 'run', title: 'run' }, { field: 'network', title: 'network' },
            { field: 'xs', title: words[x] }, { field: 'ys', title: words[y] },
          ],
        },
      },
    ];
    if (form.front.checked)
      layer.unshift({
        data: { values: front(points, x, y) },
        mark: { type: 'line', interpolate: 'linear', strokeWidth: 5, opacity: 0.2, color: 'var(--ink)' },
        encoding: { ...axes, order: { field: 'x' } },
      });
    const spec = { width: 'container', height: 380, data: { values: points }, layer };
    figure.querySelector('.count').textContent =
      `${points.length} of ${records.length} networks are drawn, ${kept.filter(Boolean).length} are in the table.`;
    drawing = drawing.then(() => vegaEmbed(place, spec, {
      actions: false, renderer: 'svg', config: window.chartConfig, tooltip: { theme: 'custom' },
    }));
  };

  const SPECIAL = { '\\': '\\textbackslash{}', '~': '\\textasciitilde{}', '^': '\\textasciicircum{}', '±': '$\\pm$' };
  const escaped = (text) => text.replace(/[\\~^±&%$#_{}]/g, (character) => SPECIAL[character] || `\\${character}`);
  const lines = () => [...document.querySelector('table').rows]
    .filter((row) => !row.hidden).map((row) => [...row.cells].map((cell) => cell.textContent));
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);
  const FORMS = {
    csv: () => lines().map((cells) => cells.map(quoted).join(',')).join('\n') + '\n',
    latex: () => {
      const [head, ...rest] = lines().map((cells) => cells.map(escaped).join(' & ') + ' \\\\');
      const columns = 'll' + 'r'.repeat(lines()[0].length - 2);
      return [`\\begin{tabular}{${columns}}`, '\\toprule', head, '\\midrule', ...rest, '\\bottomrule', '\\end{tabular}', ''].join('\n');
    },
  };
  for (const button of document.querySelectorAll('button[data-form]'))
    button.addEventListener('click', async () => {
      const text = FORMS[button.dataset.form]();
      if (button.dataset.form === 'csv') {
        const link = document.createElement('a');
        link.href = URL.createObjectURL(new Blob([text], { type: 'text/csv' }));
        link.download = 'networks.csv';
        link.click();
        return;
      }
      const before = button.textContent;
      await navigator.clipboard.writeText(text).then(
        () => { button.textContent = 'Copied'; }, () => { button.textContent = 'Not allowed here: see networks.tex'; });
      setTimeout(() => { button.textContent = before; }, 2000);
    });

  if (runs.length > 1)
    runs.forEach((name, number) => {
      const look = { fill: COLOURS[number % COLOURS.length], colour: COLOURS[number % COLOURS.length], shape: SHAPES[number % SHAPES.length], point: 1 };
      figure.querySelector('.legend').append(window.seriesButton(name, look, (on) => { on ? hidden.delete(name) : hidden.add(name); draw(); }));
    });
  form.addEventListener('submit', (event) => event.preventDefault());
  form.addEventListener('input', draw);
  draw();
})();
