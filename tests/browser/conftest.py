import os
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from browser_page import watch
from playwright.sync_api import expect, sync_playwright


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


@pytest.fixture(scope="module")
def site(folder):
    """The address of a static web host with the `folder` of a module's page."""

    class SilentHandler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SilentHandler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@pytest.fixture
def page(chromium, site):
    """That page; fails on errors in the console, and on requests to other hosts."""
    page, problems = chromium.new_page(), []
    watch(page, site, problems)
    page.goto(site)
    expect(page.locator("#foot")).to_contain_text("do not leave this browser", timeout=30_000)
    yield page
    page.close()
    assert not problems
