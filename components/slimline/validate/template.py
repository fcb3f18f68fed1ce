"""The report's HTML, for jinja2; a module, so that the code digest covers it."""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ name }}: validation</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #22303c; background: #fff;
       max-width: 66rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; border-bottom: 1px solid #d8e0e7; }
.lead { font-size: 1.05rem; }
.slower { border-left: 4px solid #b3261e; padding-left: .8rem; }
.note { color: #5b6b79; font-size: .87rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td { vertical-align: top; }
th { vertical-align: bottom; white-space: normal !important; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #e6ecf1;
         white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { color: #5b6b79; font-weight: 600; }
td small { display: block; color: #5b6b79; }
.worse { color: #b3261e; }
.better { color: #1b7f4b; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(27rem, 1fr)); gap: 1rem;
         align-items: start; }
.plots img { width: 100%; }
figure { margin: 0; }
.cards { display: flex; flex-wrap: wrap; gap: .6rem; }
.card { width: 8.5rem; padding: .5rem; border: 1px solid #d8e0e7; border-radius: 6px;
        font-size: .8rem; }
.card img { width: 100%; image-rendering: pixelated; }
.card.lost { border-color: #b3261e; }
.card.won { border-color: #1b7f4b; }
code { font-size: .82rem; }
</style>
</head>
<body>
<h1>{{ name }}: validation</h1>
<p class="lead{{ " slower" if slower }}">{{ summary }}</p>
{% for sentence in slower_steps %}
<p class="slower">{{ sentence }}</p>
{% endfor %}
<p class="note">{{ record.runtime }}; {{ record.machine }}. Test split of {{ dataset.name }},
{{ paired.examples }} examples, digest <code>{{ record.dataset_digest[:12] }}</code>.</p>

<h2>Numbers</h2>
<div class="scroll"><table>
<tr><th>stage</th><th>accuracy</th><th>size, kB</th><th>times smaller</th>
<th>median latency, ms</th><th>fastest, ms</th><th>speed against {{ record.stages[0].stage }}</th>
<th>memory, MB</th><th>model</th></tr>
{% for s in record.stages %}
<tr><td>{{ s.stage }}</td><td>{{ "%.2f"|format(100 * s.accuracy.value) }} %
<small>{{ "%.2f"|format(100 * s.accuracy.low) }} to
{{ "%.2f"|format(100 * s.accuracy.high) }}</small>
</td><td>{{ "%.1f"|format(s.bytes / 1000) }}</td><td>{{ "%.2f"|format(s.shrink) }}</td>
<td>{{ "%.4f"|format(s.latency_ms.value) }}
<small>{{ "%.4f"|format(s.latency_ms.low) }} to {{ "%.4f"|format(s.latency_ms.high) }}</small></td>
<td>{{ "%.4f"|format(s.latency_min_ms) }}</td>
<td class="{{ 'worse' if s.speedup_interval.high < 1 else '' }}">{{ "%.2f"|format(s.speedup) }}
{{ "slower" if s.speedup_interval.high < 1 }}
<small>{{ "%.2f"|format(s.speedup_interval.low) }} to
{{ "%.2f"|format(s.speedup_interval.high) }}</small></td>
<td>{{ "%.1f"|format(s.memory_mb) }}</td><td><code>{{ s.model_digest[:12] }}</code></td></tr>
{% endfor %}
</table></div>
<p class="note">Accuracy: {{ wilson }}. Latency: one example at a time, {{ record.rounds }} rounds
in which all models take turns; {{ median }}; ratios within rounds. Memory: growth of a process
that loads and runs the model, with what the runtime itself sets up. Small figures are
intervals, all at
{{ "%g"|format(100 * paired.confidence) }} %.</p>

<h2>Is the candidate as good as the baseline?</h2>
<table>
<tr><td>only the baseline is right</td><td>{{ paired.only_baseline_right }}</td></tr>
<tr><td>only the candidate is right</td><td>{{ paired.only_candidate_right }}</td></tr>
<tr><td>drop in accuracy</td><td>{{ "%.2f"|format(100 * paired.drop) }} points</td></tr>
<tr><td>upper bound at {{ "%g"|format(100 * paired.confidence) }} %, one-sided</td>
<td>{{ "%.2f"|format(100 * paired.upper_bound) }} points</td></tr>
<tr><td>accepted</td><td>{{ "%.2f"|format(100 * paired.margin) }} points</td></tr>
</table>
<p class="note">{{ paired.method }}, on the same examples. This report measures; the gate
judges.</p>

<h2>Plots</h2>
<div class="plots">
<figure><img alt="accuracy of each stage" src="{{ accuracy }}"></figure>
<figure><img alt="size of each stage" src="{{ size }}"></figure>
<figure><img alt="latency of each stage" src="{{ latency }}"></figure>
<figure><img alt="confusion of the candidate" src="{{ confusion }}">
<figcaption class="note">Confusion of the candidate.</figcaption></figure>
</div>

<h2>Classes</h2>
<div class="scroll"><table>
<tr><th>class</th><th>examples</th><th>baseline</th><th>candidate</th><th>change</th></tr>
{% for c in classes %}
<tr><td>{{ c.label }}</td><td>{{ c.count }}</td><td>{{ "%.2f"|format(100 * c.first) }} %</td>
<td>{{ "%.2f"|format(100 * c.last) }} %</td>
<td class="{{ 'worse' if c.change < 0 else 'better' if c.change > 0 else '' }}">
{{ "%+.2f"|format(100 * c.change) if c.change else "0" }}</td></tr>
{% endfor %}
</table></div>

<h2>Examples on which they differ</h2>
{% if disputed %}
<p class="note">{{ disputed_count }} in all, {{ disputed|length }} shown: red, only the baseline is
right; green, only the candidate is.</p>
{% else %}
<p class="note">None: both are right on the same examples.</p>
{% endif %}
<div class="cards">
{% for d in disputed %}
<div class="card {{ 'lost' if d.lost else 'won' }}">
{% if d.picture %}<img alt="example {{ d.id }}" src="{{ d.picture }}">{% endif %}
<div>{{ d.truth }}: baseline {{ d.first }}, candidate {{ d.last }}</div>
<div class="note">example {{ d.id }}</div></div>
{% endfor %}
</div>

<h2>How the candidate was made</h2>
<ol>
{% for line in history %}
<li>{{ line }}</li>
{% endfor %}
</ol>
</body>
</html>
"""
