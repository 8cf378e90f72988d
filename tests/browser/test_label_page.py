"""The page of `fashion-cnn label` in headless Chromium: keys in, decisions on the disk."""

import re
import signal

import pytest
from audited import NAMES, make_audit
from browser_page import watch
from playwright.sync_api import expect

from fashion_cnn.data import load_data
from fashion_cnn.data.decisions import read_decisions

pytestmark = pytest.mark.slow


@pytest.fixture
def audited(tmp_path):
    return make_audit(tmp_path)


@pytest.fixture
def opened(chromium):
    """A function that opens a page at a port; fails on console errors and on other hosts."""
    contexts, problems = [], []

    def open_page(port, width=1200, scheme="light", touch=False):
        site = f"http://127.0.0.1:{port}/"
        context = chromium.new_context(
            viewport={"width": width, "height": 800},
            color_scheme=scheme,
            has_touch=touch,
            is_mobile=touch,
        )
        contexts.append(context)
        page = context.new_page()
        watch(page, site, problems)
        page.goto(site)
        return page

    open_page.problems = problems
    yield open_page
    for context in contexts:
        context.close()
    # small pictures may still be on their way when the server stops
    assert not [text for text in problems if "net::ERR_CONNECTION" not in text]


def ready(page):
    """Wait until the picture is on the screen; no key decides before."""
    expect(page.locator("#progress")).to_contain_text("Picture ")
    expect(page.locator("body")).to_have_attribute("aria-busy", "false")


def press(page, key, position):
    """Press a key, and wait for the picture at a position, from 1."""
    ready(page)
    page.keyboard.press(key)
    expect(page.locator("#progress")).to_contain_text(f"Picture {position} of ")


def rows(audited):
    return read_decisions(audited / "decisions.csv").rows


def test_twenty_decisions_undo_reload_kill_and_resume(opened, serving, audited):
    names = load_data(audited.parent / "photos").class_names
    with serving(audited, verb="label") as (process, port, _):
        page = opened(port)
        expect(page.locator("#progress")).to_contain_text("Picture 1 of 80 (25 doubtful)")
        expect(page.locator("#large")).to_have_js_property("naturalWidth", 120)
        expect(page.locator("#reason")).to_contain_text("is doubtful")
        for i in range(10):
            press(page, str(i % 4 + 1), i + 2)
        press(page, "Enter", 12)
        press(page, "x", 13)
        press(page, " ", 14)
        press(page, "Backspace", 13)  # what was skipped comes again
        press(page, "Backspace", 12)
        press(page, "Enter", 13)
        page.reload()
        expect(page.locator("#progress")).to_contain_text("Picture 13 of 80")
        for i in range(8):
            press(page, "Enter", i + 14)
        assert len(read_decisions(audited / "decisions.csv").latest) == 20
        ready(page)
        process.send_signal(signal.SIGKILL)
        process.wait()
        page.keyboard.press("Enter")
        expect(page.locator("#status")).to_contain_text("The server does not respond")
    made = list(read_decisions(audited / "decisions.csv").latest.values())
    assert [x.label for x in made[:10]] == [names[i % 4] for i in range(10)]
    assert all(x.label == x.was for x in made[10:]) and len({x.by for x in made}) == 1
    assert [x.decision for x in rows(audited)].count("undo") == 2
    with serving(audited, verb="label") as (_, port, _):
        page = opened(port)
        expect(page.locator("#progress")).to_contain_text("Picture 21 of 80")
        expect(page.locator("#progress")).to_contain_text("20 decided")


def test_two_browsers_at_once(opened, serving, audited):
    with serving(audited, verb="label") as (_, port, _):
        first, second = opened(port), opened(port)
        expect(first.locator("#progress")).to_contain_text("Picture 1 of")
        expect(second.locator("#progress")).to_contain_text("Picture 2 of")
        press(first, "1", 3)
        press(second, "2", 4)
        press(first, "x", 5)
        press(first, "Backspace", 3)  # its own decision, not the last one
        press(first, "3", 5)
    made = read_decisions(audited / "decisions.csv").latest
    assert len(made) == 3 and len({x.by for x in made.values()}) == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_without_keys(opened, serving, audited, scheme):
    with serving(audited, verb="label") as (_, port, _):
        page = opened(port, 390, scheme, touch=True)
        expect(page.locator("#large")).to_have_js_property("naturalWidth", 120)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        last = page.locator("#classes button").last
        assert last.bounding_box()["y"] < 800  # to decide, nobody has to scroll
        ready(page)
        last.tap()
        expect(page.locator("#progress")).to_contain_text("Picture 2 of")
        ready(page)
        page.locator("#keep").tap()
        expect(page.locator("#progress")).to_contain_text("Picture 3 of")
        page.locator("#undo").tap()
        expect(page.locator("#progress")).to_contain_text("Picture 2 of")
    assert len(read_decisions(audited / "decisions.csv").latest) == 1


def test_names_are_shown_as_they_are(opened, serving, audited):
    with serving(audited, verb="label") as (_, port, _):
        page = opened(port)
        for name in NAMES:
            button = page.locator("#classes").get_by_role("button", name=name)
            expect(button).to_be_visible()
        assert page.locator("#classes b, #neighbors b, #reason b").count() == 0
        page.keyboard.press("?")
        expect(page.get_by_role("dialog")).to_be_visible()
        for name in NAMES:
            expect(page.locator("#descriptions").get_by_text(name, exact=True)).to_be_visible()
        expect(page.locator("#descriptions img")).to_have_count(16)
        ready(page)
        page.keyboard.press("1")  # no decision while the instructions are open
        page.keyboard.press("Escape")
        expect(page.locator("#progress")).to_contain_text(
            "Picture 1 of 80 (25 doubtful) · 0 decided"
        )


def test_many_classes_are_found_by_typing(opened, serving, tmp_path):
    names = [f"class {chr(97 + k)}{k}" for k in range(14)] + ["hat"]
    audited = make_audit(tmp_path, names, count=6, suspects=10)
    with serving(audited, verb="label") as (_, port, _):
        page = opened(port)
        expect(page.locator("#classes button")).to_have_count(15)
        ready(page)
        page.keyboard.type("s n13")
        expect(page.locator("#classes button")).to_have_count(1)
        page.keyboard.press("Enter")
        expect(page.locator("#progress")).to_contain_text("Picture 2 of")
        ready(page)
        page.keyboard.type("hx")
        expect(page.locator("#classes button")).to_have_count(0)
        page.keyboard.press("Enter")  # nothing to choose
        page.keyboard.press("Escape")
        expect(page.locator("#classes button")).to_have_count(15)
        page.keyboard.type("HA")
        page.keyboard.press("Enter")
        expect(page.locator("#progress")).to_contain_text("Picture 3 of")
        press(page, "Enter", 4)  # keeps the label
        press(page, "x", 5)
        press(page, " ", 6)
    made = list(read_decisions(audited / "decisions.csv").latest.values())
    assert [x.label for x in made] == ["class n13", "hat", made[2].was, ""]


def test_blind_decisions(opened, serving, audited):
    with serving(audited, "--blind", "--doubtful", verb="label") as (_, port, _):
        page = opened(port)
        expect(page.locator("#progress")).to_contain_text("Picture 1 of 25")
        for name in ("#reason", "#bars", "#keep", "#similar", ".present"):
            expect(page.locator(name)).to_be_hidden()
        ready(page)
        page.keyboard.press("Enter")  # there is nothing to keep
        press(page, "2", 2)
        expect(page.locator("#progress")).to_have_text("Picture 2 of 25 · 1 decided")
    (row,) = rows(audited)
    assert row.label == load_data(audited.parent / "photos").class_names[1]


def test_a_key_that_is_held_decides_once(opened, serving, audited):
    with serving(audited, verb="label") as (_, port, _):
        page = opened(port)
        ready(page)
        page.keyboard.down("Enter")
        for _ in range(5):
            page.keyboard.down("Enter")  # as the system repeats it
            page.wait_for_timeout(60)
        page.keyboard.up("Enter")
        press(page, "Enter", 3)
    assert len(rows(audited)) == 2


def test_nobody_decides_about_a_picture_that_is_not_shown(opened, serving, audited):
    with serving(audited, verb="label") as (_, port, _):
        page = opened(port)
        press(page, "1", 2)
        page.route("**/picture?*", lambda route: route.abort())
        press(page, "1", 3)
        expect(page.locator("#status")).to_contain_text("does not respond")
        assert page.locator("#large").get_attribute("src") is None
        for key in ("1", "Enter", "x"):
            page.keyboard.press(key)
        page.unroute("**/picture?*")
        page.keyboard.press(" ")
        expect(page.locator("#progress")).to_contain_text("Picture 4 of")
        opened.problems.clear()  # Chromium logs what was not loaded
    assert [x.decision for x in rows(audited)] == ["label", "label", "skip"]


def test_the_end_and_back(opened, serving, tmp_path):
    audited = make_audit(tmp_path, suspects=2)
    with serving(audited, "--doubtful", verb="label") as (_, port, _):
        page = opened(port)
        press(page, "Enter", 2)
        ready(page)
        page.keyboard.press("Enter")
        expect(page.get_by_text("All pictures are decided.")).to_be_visible()
        expect(page.locator("#next-step")).to_contain_text("--decisions decisions.csv")
        page.keyboard.press("Backspace")
        expect(page.locator("#progress")).to_contain_text("Picture 2 of 2")
        expect(page.get_by_text("All pictures are decided.")).to_be_hidden()


def test_a_token_is_requested(opened, serving, audited, tmp_path):
    (tmp_path / "token").write_text("secret")
    with serving(audited, "--token-file", tmp_path / "token", verb="label") as (_, port, _):
        page = opened(port)
        field = page.get_by_label("This server requires an access token")
        field.fill("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#status")).to_contain_text("missing or wrong token")
        field.fill("secret")
        page.keyboard.press("Enter")
        expect(page.locator("#large")).to_have_js_property("naturalWidth", 120)
        press(page, "1", 2)
        assert all(re.search("401", text) for text in opened.problems)
        opened.problems.clear()
