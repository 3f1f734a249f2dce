"""Take docs/images/dashboard.png: the dashboard on the shipped example study.

    python -m docs.screenshot

Serves a copy of studies.db.example by `schedsearch dashboard`, opens the study's page in headless
Chromium, and cuts the picture off below the plots.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

from tests.browser import browser

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "images" / "dashboard.png"
#: Layers of the plots that are drawn before the picture is taken: two for each of Optuna's history,
#: importances and timeline, and of the two plots that schedsearch adds.
_PLOTS = 10
_WINDOW = (1500, 2400)
#: Pixels between the top of a card and its heading.
_PADDING = 40
#: The size of the file: pixels across, and colours.
_WIDTH, _COLOURS = 1200, 256


@contextmanager
def served(database: Path) -> Iterator[str]:
    """Serve the studies of a SQLite file on a free port; yield the dashboard's address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "schedsearch", "dashboard", "--port", "0"],
        env=os.environ | {"SCHEDSEARCH_STORAGE": f"sqlite:///{database}"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process:
        try:
            for line in process.stderr:
                if found := re.search(r"http://\S+/dashboard", line):
                    yield found[0]
                    return
            raise SystemExit("`schedsearch dashboard` ended before it listened")
        finally:
            process.terminate()


def screenshot(driver: WebDriver, page: str) -> Image.Image:
    """Return a study's page, from its top to the end of the plots."""
    driver.set_window_size(*_WINDOW)
    driver.get(page)

    def drawn(driver: WebDriver) -> bool:
        return len(driver.find_elements(By.CSS_SELECTOR, ".js-plotly-plot .main-svg")) >= _PLOTS

    WebDriverWait(driver, 60).until(drawn)
    driver.execute_script("document.documentElement.style.overflow = 'hidden'")
    below = driver.find_element(By.XPATH, "//*[starts-with(text(), 'Best Trial')]")
    taken = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    return taken.crop((0, 0, taken.width, below.rect["y"] - _PADDING))


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database = Path(shutil.copy(ROOT / "studies.db.example", folder / "studies.db"))
        with served(database) as dashboard, browser(folder / "profile") as driver:
            image = screenshot(driver, f"{dashboard}/studies/1")
    image = image.resize(
        (_WIDTH, round(image.height * _WIDTH / image.width)), Image.Resampling.LANCZOS
    )
    image.quantize(_COLOURS).save(PICTURE, optimize=True)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
