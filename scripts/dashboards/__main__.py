"""python -m scripts.dashboards: writes every dashboard to collector-config/grafana/dashboards."""

from __future__ import annotations

from scripts.dashboards.files import FOLDER, files

for name, text in files().items():
    (FOLDER / name).write_text(text)
    print(FOLDER / name)
