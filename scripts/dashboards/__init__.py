"""Writes the Grafana dashboards in collector-config/grafana/dashboards: one module here for each of them.

    python -m scripts.dashboards        # writes them anew; a unit test holds that nothing else has changed them

parts.py knows Grafana's JSON, promql.py the forms of query that come again and again; the other modules say what is
shown, and of which metrics.
"""
