import os
import shutil

import pytest
from playwright.sync_api import sync_playwright


@pytest.fixture(scope="module")  # not longer: its event loop runs in this thread
def chromium():
    """A headless Chromium."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if not program:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=options)
        yield browser
        browser.close()
