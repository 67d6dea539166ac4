"""The report as readers see it: in Chromium, light and dark, wide and on a phone, with everything and with nothing."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import reporting
from playwright.sync_api import sync_playwright

from pgvmig.report import page as pages

pytestmark = pytest.mark.xdist_group("report")

WIDTHS = {"wide": 1280, "phone": 390}
KINDS = {"whole": reporting.whole, "unbegun": reporting.unbegun, "hostile": reporting.hostile}

# Text of which somebody could not read a part: cut off by a box, out of the window, or printed over other text.
UNREADABLE = """() => {
  const found = [];
  const seen = element => element.checkVisibility() && element.getClientRects().length > 0;
  const small = element => element.closest('.hidden, legend, .skip') !== null;
  for (const element of document.querySelectorAll('body *:not(svg *)')) {
    if (!seen(element) || small(element) || element.closest('.scroll') || element.tagName === 'INPUT') continue;
    const box = element.getBoundingClientRect();
    const said = element.textContent.slice(0, 40);
    if (box.right > innerWidth + 1 || box.left < -1) found.push(['outside', element.className, said]);
    if (element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).overflowX !== 'visible')
      found.push(['cut off', element.className, said]);
  }
  for (const one of [...document.querySelectorAll('.tiles dd > *, .badge, .route > *')].filter(seen))
    if (one.getBoundingClientRect().right > one.parentElement.getBoundingClientRect().right + 1)
      found.push(['wider than its place', one.className, one.textContent]);
  for (const drawing of [...document.querySelectorAll('svg.plot')].filter(seen)) {
    const whole = drawing.getBoundingClientRect();
    const texts = [...drawing.querySelectorAll('text')].filter(text => text.textContent.trim());
    const boxes = texts.map(text => [text.textContent, text.getBoundingClientRect()]);
    for (const [said, box] of boxes)
      if (box.left < whole.left - 2 || box.right > whole.right + 2 ||
          box.top < whole.top - 2 || box.bottom > whole.bottom + 2)
        found.push(['outside its plot', drawing.querySelector('title').textContent, said]);
    boxes.forEach(([said, a], i) => boxes.slice(i + 1).forEach(([other, b]) => {
      const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (width > 2 && height > 3) found.push(['printed over', said, other]);
    }));
  }
  return found;
}"""

# The blocks that the page is made of, two of which stand in one place.
OVERLAPPING = """() => {
  const found = [];
  for (const parent of document.querySelectorAll('main, .grid, .tiles, ul.gates, .lists, header.top')) {
    const shown = [...parent.children].filter(child => child.checkVisibility());
    const boxes = shown.map(child => child.getBoundingClientRect());
    boxes.forEach((a, i) => boxes.slice(i + 1).forEach(b => {
      if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
          Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1) found.push(parent.className);
    }));
  }
  return found;
}"""

# Text of less contrast than WCAG's AA asks for: 4.5, and 3 where it is large.
FAINT = """() => {
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = numbers(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const onState = light(numbers(getComputedStyle(document.querySelector('.state') ?? document.body).color));
  const found = new Set();
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility() || element.matches('title, desc, style')) continue;
    const style = getComputedStyle(element);
    const inside = element.closest('svg');
    const colour = light(numbers(inside ? style.fill : style.color));
    if (inside && Math.abs(colour - onState) < 1e-6) continue;  // on a bar, see the test of the palette
    const other = light(behind(inside ?? element));
    const ratio = (Math.max(colour, other) + 0.05) / (Math.min(colour, other) + 0.05);
    const size = parseFloat(style.fontSize);
    if (ratio < (size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5))
      found.add(`${element.textContent.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return [...found];
}"""


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium here, so nobody looked at the report: apt-get install chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The reports, each as a file."""
    folder = tmp_path_factory.mktemp("reports")
    for name, facts in KINDS.items():
        (folder / f"{name}.html").write_text(pages.render(facts()), encoding="utf-8")
    return folder


class Reader:
    """Somebody with a screen, who notes what the page asked for and complained about."""

    def __init__(self, browser, file: Path, theme: str, width: int) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.goto(file.as_uri())
        # what is folded away is read, too
        self.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_everything_can_be_read(browser, files, kind, theme, width):
    file = files / f"{kind}.html"
    reader = Reader(browser, file, theme, WIDTHS[width])
    try:
        assert reader.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert reader.page.evaluate(UNREADABLE) == []
        assert reader.page.evaluate(OVERLAPPING) == []
        assert reader.page.evaluate(FAINT) == []
        assert reader.requests == [file.as_uri()]
        assert reader.complaints == []
    finally:
        reader.page.close()


def test_hostile_texts_are_words_on_the_page(files):
    text = (files / "hostile.html").read_text(encoding="utf-8")
    assert len(text) < 1_500_000
    assert "<script" not in text.lower()
    assert re.search(r"<b>\W*<b>", text) is None
    assert "\u202e" not in text
    assert "\x07" not in text
    assert "{{ 7*7 }}" in text
    assert "(cut, 100,0" in text


def test_the_reader_chooses_the_colours_and_paper_is_white(browser, files):
    reader = Reader(browser, files / "whole.html", "light", 1280)
    colour = "getComputedStyle(document.body).backgroundColor"
    try:
        light = reader.page.evaluate(colour)
        reader.page.get_by_text("Dark", exact=True).click()
        dark = reader.page.evaluate(colour)
        assert dark != light
        reader.page.emulate_media(color_scheme="dark")
        reader.page.get_by_text("Light", exact=True).click()
        assert reader.page.evaluate(colour) == light
        reader.page.get_by_text("Auto", exact=True).click()
        assert reader.page.evaluate(colour) == dark
        reader.page.emulate_media(media="print", color_scheme="dark")
        assert reader.page.evaluate(colour) == light
        reader.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = false; })")
        folded = "[...document.querySelectorAll('.lists, details table')].filter(one => one.checkVisibility()).length"
        assert reader.page.evaluate(folded) > 4
        reader.page.emulate_media(media="screen")
        assert reader.page.evaluate(folded) == 0
    finally:
        reader.page.close()


def test_who_listens_is_told_what_the_plots_show(browser, files):
    reader = Reader(browser, files / "whole.html", "light", 1280)
    try:
        plots = reader.page.get_by_role("img").all()
        assert len(plots) == 8  # those for phones are not read a second time
        names = [plot.get_attribute("aria-labelledby").split() for plot in plots]
        said = [[reader.page.locator(f"#{name}").text_content() for name in pair] for pair in names]
        assert all(title and description for title, description in said)
        assert [title for title, text in said if "lead +0.069" in text] == ["Quality, old against new"]
        assert reader.page.get_by_role("heading", level=1).count() == 1
        ids = reader.page.evaluate("[...document.querySelectorAll('[id]')].map(element => element.id)")
        assert len(ids) == len(set(ids))
    finally:
        reader.page.close()
