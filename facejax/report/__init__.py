"""The report of a run: report/index.html, one file that needs nothing else.

`python -m facejax.report RUN` builds it anew from what lies in the folder of
the run: metrics.jsonl, config.json, env.json, model.json and the results of
evaluations, report/*.json.
"""
