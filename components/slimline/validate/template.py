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
<tr><th>stage</th><th>{{ paired.metric }}</th><th>size, kB</th><th>times smaller</th>
<th>median latency, ms</th><th>fastest and 95 %, ms</th>
<th>speed against {{ names[0] }}</th>
{% if record.stages[0].batch %}<th>batch of {{ record.stages[0].batch }}, ms</th>{% endif %}
<th>processor time, ms</th><th>memory, MB</th>{% if agreement %}<th>same answer</th>{% endif %}
<th>model</th></tr>
{% for s in record.stages %}
<tr><td>{{ s.stage }}</td><td>{{ s.measured.value|value }}
<small>{{ s.measured.low|value }} to {{ s.measured.high|value }}</small>
</td><td>{{ "%.1f"|format(s.bytes / 1000) }}</td><td>{{ "%.2f"|format(s.shrink) }}</td>
<td>{{ "%.4f"|format(s.latency_ms.value) }}
<small>{{ "%.4f"|format(s.latency_ms.low) }} to {{ "%.4f"|format(s.latency_ms.high) }}</small></td>
<td>{{ "%.4f"|format(s.latency_min_ms) }}
<small>{{ "%.4f"|format(s.latency_p95_ms) }}</small></td>
<td class="{{ 'worse' if s.speedup_interval.high < 1 else '' }}">{{ "%.2f"|format(s.speedup) }}
{{ "slower" if s.speedup_interval.high < 1 }}
<small>{{ "%.2f"|format(s.speedup_interval.low) }} to
{{ "%.2f"|format(s.speedup_interval.high) }}</small></td>
{% if s.batch %}<td>{{ "%.3f"|format(s.batch_latency_ms.value) }}
<small>{{ "%.2f"|format(s.batch_speedup.value) }} times as fast</small></td>{% endif %}
<td>{{ "%.4f"|format(s.cpu_ms) }}</td>
<td>{{ "%.1f"|format(s.memory_mb) }}</td>
{% if agreement %}<td>{{ "%.2f"|format(100 * agreement[loop.index0]) }} %</td>{% endif %}
<td><code>{{ s.model_digest[:12] }}</code></td></tr>
{% endfor %}
</table></div>
<p class="note">{{ paired.metric }}: {{ wilson if paired.metric in ("accuracy", "top5")
else "percentile bootstrap" }}. Latency: one example at a time, {{ record.rounds }} rounds
in which all models take turns; {{ median }}; ratios within rounds. Processor time of one call
stands for energy: at a fixed clock one grows with the other, joules were not measured. Memory:
growth of a process that loads and runs the model, with what the runtime itself sets up.
{% if agreement %}Same answer: share of examples that get the class which {{ names[0] }} gives.
{% endif %}Small figures are intervals, all at {{ "%g"|format(100 * paired.confidence) }} %.
{{ parity }}</p>

<h2>Is the candidate as good as the baseline?</h2>
<table>
{% if paired.only_baseline_right or paired.only_candidate_right %}
<tr><td>only the baseline is right</td><td>{{ paired.only_baseline_right }}</td></tr>
<tr><td>only the candidate is right</td><td>{{ paired.only_candidate_right }}</td></tr>
{% endif %}
<tr><td>{{ "drop" if paired.higher_is_better else "rise" }} in {{ paired.metric }}</td>
<td>{{ paired.drop|change }}</td></tr>
<tr><td>upper bound at {{ "%g"|format(100 * paired.confidence) }} %, one-sided</td>
<td>{{ paired.upper_bound|change }}</td></tr>
<tr><td>accepted</td><td>{{ paired.margin|change }}</td></tr>
{% for what, shift in (("mean accuracy on corrupted images, drop", record.robustness),
("expected calibration error, rise", record.calibration)) %}
{% if shift %}
<tr><td>{{ what }}</td><td>{{ "%.2f"|format(100 * shift.drop) }} points
<small>at most {{ "%.2f"|format(100 * shift.upper_bound) }}</small></td></tr>
{% endif %}
{% endfor %}
</table>
<p class="note">{{ paired.method }}, on the same {{ paired.examples }} examples. This report
measures; the gate judges.</p>

<h2>Plots</h2>
<div class="plots">
{% for title, plot in plots.items() %}
<figure><img alt="{{ title }}" src="{{ plot }}">
<figcaption class="note">{{ title[:1]|upper }}{{ title[1:] }}.</figcaption></figure>
{% endfor %}
</div>

{% if parts %}
<h2>Classes and slices</h2>
<div class="scroll"><table>
<tr><th>part</th><th>examples</th><th>metric</th><th>baseline</th><th>candidate</th><th>drop</th>
<th>at most, alone</th><th>at most, all together</th></tr>
{% for row in parts %}
<tr><td>{{ row.part.name }}</td><td>{{ row.part.examples }}</td><td>{{ row.part.metric }}</td>
<td>{{ row.value(row.part.baseline) }}</td><td>{{ row.value(row.part.candidate) }}</td>
<td class="{{ 'worse' if row.part.drop > 0 else 'better' if row.part.drop < 0 else '' }}">
{{ row.change(row.part.drop) }}</td>
<td>{{ row.change(row.alone) }}</td><td>{{ row.change(row.together) }}</td></tr>
{% endfor %}
</table></div>
<p class="note">Upper bounds, one-sided, at {{ "%g"|format(100 * paired.confidence) }} %. Alone: of
this part, had it been the only question. All together: of all {{ parts|length }} at once
(Bonferroni). The gate's slice_max_drop uses Holm's procedure, which lies between them.</p>
{% endif %}
{% if classes %}
<h2>Classes</h2>
<div class="scroll"><table>
<tr><th>class</th><th>baseline</th><th>candidate</th></tr>
{% for c in classes %}
<tr><td>{{ c.label }}</td><td>{{ c.first|value }}</td><td>{{ c.last|value }}</td></tr>
{% endfor %}
</table></div>
{% endif %}

{% if record.robustness %}
<h2>Corrupted images</h2>
<div class="scroll"><table>
<tr><th>corruption</th><th>severity</th><th>baseline</th><th>candidate</th><th>change</th></tr>
{% for c in record.robustness.conditions %}
<tr><td>{{ c.corruption }}</td><td>{{ c.severity }}</td>
<td>{{ "%.2f"|format(100 * c.baseline) }} %</td><td>{{ "%.2f"|format(100 * c.candidate) }} %</td>
<td class="{{ 'worse' if c.candidate < c.baseline else 'better' if c.candidate > c.baseline }}">
{{ "%+.2f"|format(100 * (c.candidate - c.baseline)) }}</td></tr>
{% endfor %}
</table></div>
<p class="note">The same {{ record.robustness.examples }} images for both, corrupted before any
preprocessing (Hendrycks and Dietterich 2019).</p>
{% endif %}
{% if record.calibration %}
<h2>Calibration</h2>
<table>
<tr><th>stage</th><th>expected calibration error</th><th>Brier score</th></tr>
{% for s in record.stages %}
<tr><td>{{ s.stage }}</td><td>{{ "%.2f"|format(100 * s.ece) }} %</td>
<td>{{ "%.4f"|format(s.brier) }}</td></tr>
{% endfor %}
</table>
<p class="note">Over 15 bins of equal width (Guo et al. 2017); Brier score over all classes.</p>
{% endif %}

<h2>Where the bytes are, layer by layer</h2>
<div class="scroll"><table>
<tr><th>layer</th>{% for n in names %}<th>{{ n }}</th>{% endfor %}</tr>
{% for layer, facts in layers %}
<tr><td>{{ layer }}</td>
{% for f in facts %}
<td>{% if f %}{{ "{:,}".format(f.bytes) }}
<small>{{ f.operator }} {{ f.shape|join(" x ") }}</small>{% else %}gone{% endif %}</td>
{% endfor %}
</tr>
{% endfor %}
<tr><td>operators</td>
{% for counted in operators %}
<td>{{ counted.values()|sum }}
{% for kind, count in counted.items() %}<small>{{ kind }} {{ count }}</small>{% endfor %}</td>
{% endfor %}
</tr>
</table></div>
<p class="note">Bytes of the tensors that a layer's operator reads, with scales and zero points.</p>

{% if disputed_count is not none %}
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
{% endif %}

<h2>How the candidate was made</h2>
<ol>
{% for line in history %}
<li>{{ line }}</li>
{% endfor %}
</ol>
</body>
</html>
"""
