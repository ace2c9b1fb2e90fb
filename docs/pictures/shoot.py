"""Make README's picture from a run's report: its top, two of its curves and median cases.

.venv/bin/python docs/pictures/shoot.py runs/demo/report/report.html

Needs Debian's `chromium`; playwright comes with the development dependencies.
"""

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1180, 1590
PICTURE = Path(__file__).parent / "report.png"


def main() -> None:
    """Open the report in a browser, take its long parts away, and keep a picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    path = parser.parse_args().report.resolve()
    with sync_playwright() as api:
        browser = api.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(path.as_uri())
        page.evaluate(
            "[...document.querySelectorAll('section')]"
            ".filter(s => s.querySelector('h2')?.textContent.trim() === 'Measures')"
            ".forEach(s => s.remove());"
            "[...document.querySelectorAll('figure:has(svg)')]"
            ".filter(f => ['Calibration', 'Cases'].some(t => f.textContent.trim().startsWith(t)))"
            ".forEach(f => f.remove());"
            "document.querySelectorAll('.gallery').forEach((g, i) => {"
            "if (i !== 1) { g.previousElementSibling.remove(); g.remove(); } })"
        )
        page.screenshot(path=PICTURE, clip={"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT})
        browser.close()


if __name__ == "__main__":
    main()
