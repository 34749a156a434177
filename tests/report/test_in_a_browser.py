"""The page as people meet it, in headless Chromium where there is one: quiet, alone, legible, narrow, by keyboard."""

import sys

import pytest
from browser import CONTRAST, Browser, find_browser
from made_runs import comparison, nerf, pretrain, probe

from nndl_suite.report.page import write_report

pytestmark = [
    pytest.mark.skipif(find_browser() is None, reason="no Chromium on this machine"),
    pytest.mark.skipif(sys.platform == "win32", reason="the pipes to it are POSIX"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = Browser(find_browser(), tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    probes = [probe(root), probe(root, "probe-of-a-rather-long-name-that-goes-on-and-on", 0.12)]
    runs = [*probes, pretrain(root), pretrain(root, "again"), comparison(root), nerf(root)]
    return write_report(runs, root / "report.html")


@pytest.fixture(params=["light", "dark"])
def theme(request):
    return request.param


def test_no_complaints_and_nothing_asked_of_anyone(browser, page):
    browser.open(page, width=1200, motion="no-preference")
    browser.ask("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    browser.ask("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert browser.complaints() == []
    assert browser.requests() == []


def test_a_loading_page_would_be_noticed(browser, page, tmp_path):
    broken = tmp_path / "broken.html"
    html = page.read_text(encoding="utf-8").replace("<main", '<img src="http://127.0.0.1:9/x.png" alt="x"><main', 1)
    broken.write_text(html.replace('"use strict";', '"use strict"; console.error("so");'), encoding="utf-8")
    browser.open(broken, width=1200)
    assert browser.complaints()
    broken.write_text(broken.read_text(encoding="utf-8").replace("img-src data:", "img-src *"), encoding="utf-8")
    browser.open(broken, width=1200)
    assert browser.requests() == ["http://127.0.0.1:9/x.png"]


def test_text_stands_out_from_its_ground(browser, page, theme):
    browser.open(page, width=1200, theme=theme)
    browser.ask("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    told = browser.ask(CONTRAST)
    assert told["seen"] > 300
    assert told["found"] == []


def test_faint_text_would_be_noticed(browser, page):
    browser.open(page, width=1200)
    browser.ask("document.documentElement.style.setProperty('--soft', '#999')")
    assert browser.ask(CONTRAST)["found"]


def test_the_switch_overrules_the_system(browser, page, theme):
    browser.open(page, width=1200, theme=theme)
    ground = "getComputedStyle(document.body).backgroundColor"
    auto = browser.ask(ground)
    seen = {}
    for name in ("light", "dark", "auto"):
        browser.ask(f"document.querySelector('label[for=theme-{name}]').click()")
        seen[name] = browser.ask(ground)
    assert seen["light"] != seen["dark"]
    assert seen["auto"] == auto == seen[theme]
    # lines have a colour of their own on either ground
    line = "getComputedStyle(document.querySelector('.pictures svg [style*=\"var(--c0\"]')).stroke"
    strokes = []
    for name in ("light", "dark"):
        browser.ask(f"document.querySelector('label[for=theme-{name}]').click()")
        strokes.append(browser.ask(line))
    assert strokes[0] != strokes[1]


@pytest.mark.parametrize("width", [390, 768, 1200])
def test_the_page_does_not_scroll_sideways(browser, page, width):
    browser.open(page, width=width, height=844)
    browser.ask("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    assert browser.ask("document.documentElement.scrollWidth") <= width
    outside = f"""
      [...document.querySelectorAll("main *, header *")].filter((one) => {{
        const box = one.getBoundingClientRect();
        return box.width > 0 && box.right > {width} + 1 && !one.closest(".wide, .film, legend, svg *");
      }}).map((one) => one.outerHTML.slice(0, 80))
    """
    assert browser.ask(outside) == []


def test_links_lead_somewhere(browser, page):
    browser.open(page, width=1200)
    lost = """
      [...document.querySelectorAll("a")].filter((a) => !document.querySelector(a.getAttribute("href"))).length
    """
    assert browser.ask("document.querySelectorAll('nav a').length") == 6
    assert browser.ask(lost) == 0


def test_everything_that_acts_is_reached_by_tab(browser, page):
    browser.open(page, width=1200)
    wanted = browser.ask("""
      [...document.querySelectorAll("a, summary, button, canvas, .wide, input")].filter((one) =>
        one.checkVisibility() && !(one.type === "radio" && !one.checked)).length
    """)
    reached = set()
    for _ in range(wanted + 5):
        browser.press("Tab", windowsVirtualKeyCode=9)
        reached.add(
            browser.ask("""
          (() => {
            const all = [...document.querySelectorAll("a, summary, button, canvas, .wide, input")];
            return all.indexOf(document.activeElement);
          })()
        """)
        )
    assert len(reached - {-1}) == wanted


def test_the_line_between_photo_and_render_moves(browser, page):
    browser.open(page, width=1200)
    at = "getComputedStyle(document.querySelector('[data-compare] .stack')).getPropertyValue('--at')"
    assert browser.ask(at) == "50%"
    browser.ask("document.querySelector('[data-compare] input[type=range]').focus()")
    browser.press("ArrowRight", windowsVirtualKeyCode=39)
    assert browser.ask(at) == "51%"
    box = browser.ask("""
      (() => {
        const stack = document.querySelector("[data-compare] .stack");
        stack.scrollIntoView({ block: "center", behavior: "instant" });
        const { left, top, width, height } = stack.getBoundingClientRect();
        return [left, top, width, height];
      })()
    """)
    y = box[1] + box[3] / 2
    browser.drag((box[0] + box[2] * 0.5, y), (box[0] + box[2] * 0.2, y))
    assert browser.ask(at) == "20%"
    hidden = "getComputedStyle(document.querySelector('[data-compare] .error')).visibility"
    assert browser.ask(hidden) == "hidden"
    browser.ask("document.querySelector('[data-compare] input[type=checkbox]').click()")
    assert browser.ask(hidden) == "visible"


def test_the_turn_plays_and_stops(browser, page):
    where = "document.querySelector('[data-film] img').style.transform"
    browser.open(page, width=1200, motion="reduce")
    still = browser.ask(where)
    browser.ask("new Promise((done) => setTimeout(done, 300))")
    assert browser.ask(where) == still  # as the person's system asks
    browser.open(page, width=1200, motion="no-preference")
    moved = f"const t = setInterval(() => {{ if ({where} !== {still!r}) {{ clearInterval(t); done() }} }}, 20)"
    browser.ask(f"new Promise((done) => {{ {moved} }})")
    button = "document.querySelector('[data-film] button')"
    assert browser.ask(f"{button}.textContent") == "Pause"
    browser.ask(f"{button}.click()")
    assert browser.ask(f"{button}.textContent") == "Play"
    browser.ask("document.querySelector('[data-film] input').focus()")
    browser.press("Home", windowsVirtualKeyCode=36)
    browser.press("ArrowRight", windowsVirtualKeyCode=39)
    assert browser.ask(where).startswith("translate(-16.6")
    shown = browser.ask("""
      (() => {
        const box = document.querySelector(".film").getBoundingClientRect();
        const image = document.querySelector(".film img").getBoundingClientRect();
        return [image.width / box.width, image.height / box.height];
      })()
    """)
    assert shown == pytest.approx([6, 6], rel=0.02)


def test_the_cloud_turns(browser, page, theme):
    browser.open(page, width=1200, theme=theme)
    picture = "document.querySelector('canvas').toDataURL()"
    settled = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    browser.ask("document.querySelector('canvas').focus()")
    browser.ask(settled)
    seen = [browser.ask(picture)]
    for act in ("ArrowLeft", "ArrowUp", "+"):
        browser.press(act, text=act if len(act) == 1 else "")
        browser.ask(settled)
        seen.append(browser.ask(picture))
    for key in ("ArrowRight", "-"):
        browser.ask(f"document.querySelector('[data-key=\"{key}\"]').click()")
        browser.ask(settled)
        seen.append(browser.ask(picture))
    assert len(set(seen)) == len(seen)
    browser.ask("document.querySelector('[data-key=Home]').click()")
    browser.ask(settled)
    assert browser.ask(picture) == seen[0]
    other = {"light": "dark", "dark": "light"}[theme]
    browser.ask(f"document.querySelector('label[for=theme-{other}]').click()")
    browser.ask(settled)
    assert browser.ask(picture) != seen[0]  # the strokes' colours are the ground's


def test_without_scripts_everything_is_there(browser, page):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page, width=390)
        assert browser.ask("document.querySelectorAll('.controls:not([hidden])').length") == 0
        assert browser.ask("getComputedStyle(document.querySelector('.stack .error')).visibility") == "visible"
        assert browser.ask("document.documentElement.scrollWidth") <= 390
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_it_is_small_enough_to_be_sent(page):
    assert page.stat().st_size < 5 * 2**20
