"""Open the report, or MLflow's view of the runs, in Debian's chromium, and take a screenshot.

python tests/helpers/screenshot.py results/report/report.html docs/report.png
python tests/helpers/screenshot.py results/report/report.html phone.png --width 390 --whole --dark
python tests/helpers/screenshot.py "$(gsm8k-grpo view)" docs/mlflow.png     # while `make ui` runs
"""

import argparse
import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM = Path("/usr/bin/chromium")
CHROMEDRIVER = Path("/usr/bin/chromedriver")


@contextmanager
def browser(width: int, height: int, dark: bool = False, offline: bool = True) -> Iterator[Chrome]:
    """Headless chromium with a viewport of `width` by `height` pixels, by default without a network."""
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=ChromeService(str(CHROMEDRIVER)))
    try:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        no_network = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        resize(driver, width, height)
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        driver.execute_cdp_cmd("Network.enable", {})
        if offline:
            driver.execute_cdp_cmd("Network.emulateNetworkConditions", no_network)
        yield driver
    finally:
        driver.quit()


def resize(driver: Chrome, width: int, height: int) -> None:
    """Set the size of the viewport; it may be below the 500 pixels that a headless window has at least."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def show(driver: Chrome, page: Path) -> None:
    """Load a report and wait until every chart is drawn."""
    driver.get(page.resolve().as_uri())
    drawn = "return [...document.querySelectorAll('.chart')].every(chart => chart.querySelector('svg'))"
    WebDriverWait(driver, 60).until(lambda driver: driver.execute_script(drawn))


def show_runs(driver: Chrome, address: str) -> None:
    """Load MLflow's view of the runs, without the assistant of a first visit, and wait until all charts are drawn."""
    visited = "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"
    driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": visited})
    driver.get(address)
    drawn = "return document.querySelectorAll('.js-plotly-plot .main-svg .point').length > 0"
    WebDriverWait(driver, 120).until(lambda driver: driver.execute_script(drawn))
    last = b""

    def unchanged(driver: Chrome) -> bool:
        nonlocal last
        previous, last = last, picture(driver)
        return previous == last

    WebDriverWait(driver, 120, poll_frequency=2).until(unchanged)  # a chart that is not drawn yet has a moving sign


def picture(driver: Chrome, whole: bool = False) -> bytes:
    """PNG of the first screen, or of the whole page."""
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": whole})
    return base64.b64decode(shot["data"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", help="file of the report, or address of MLflow's view")
    parser.add_argument("image", type=Path)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=900)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--whole", action="store_true", help="the whole page instead of the first screen")
    arguments = parser.parse_args()
    served = arguments.page.startswith("http")
    with browser(arguments.width, arguments.height, arguments.dark, offline=not served) as driver:
        show_runs(driver, arguments.page) if served else show(driver, Path(arguments.page))
        arguments.image.write_bytes(picture(driver, arguments.whole))
