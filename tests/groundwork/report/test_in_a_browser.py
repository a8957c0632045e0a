"""What readers do with a page: they point, sort, switch, copy; on a phone and at night, too."""

import csv
import json
import re

import pytest

from groundwork import compare
from groundwork.report import figures, survey
from groundwork.report import page as page_lib
from tests import browser

ROWS = [["b", "0.90±0.01", "1,000"], ["a", "0.95±0.02", "20"], ["c", "", "300"]]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    figure, axes = figures.subplots(2)
    for ax in axes:
        figures.band(ax, [1, 2, 4], [[0.2], [0.4], [0.9]], label="ticket", marker="o")
        figures.band(ax, [1, 2, 4], [[0.1], [0.3], [0.5]], label="dense", color="black")
        ax.set(xlabel="cost", ylabel="accuracy")
    drawn = figures.save(figure, folder / "accuracy.png")
    sections = [
        ("Figure", page_lib.picture(drawn, "Accuracy.")),
        ("Table", page_lib.table(["network", "accuracy", "bytes"], ROWS, "One row per network.")),
        ("The command", page_lib.command(["python", "-m", "lottery.main", "--config=a b.py"])),
    ]
    return page_lib.write(folder, "Lottery tickets: a", sections)


def names(page):
    return page.locator("tbody tr:not([hidden]) th").all_text_contents()


def test_it_is_whole_on_any_screen(chromium, path):
    browser.check(chromium, path)


def test_points_say_the_numbers_of_the_table(chromium, path):
    with browser.opened(chromium, path) as page:
        page.locator(".panel").first.locator(".mark-symbol path").nth(2).hover()
        page.wait_for_selector("#vg-tooltip-element.visible")
        said = page.locator("#vg-tooltip-element").inner_text()
        assert re.findall(r"ticket|0\.9|4", said) == ["ticket", "4", "0.9"]


def test_series_switch_off_and_on_in_all_panels(chromium, path):
    with browser.opened(chromium, path) as page:
        button = page.get_by_role("button", name="ticket")
        points = page.locator(".panel .mark-symbol path")
        assert points.count() == 12
        for pressed, left in (("false", 6), ("true", 12)):
            button.click()
            assert button.get_attribute("aria-pressed") == pressed
            page.wait_for_function(
                f"document.querySelectorAll('.panel .mark-symbol path').length == {left}"
            )


def test_columns_sort_as_numbers_and_back(chromium, path):
    with browser.opened(chromium, path) as page:
        for column, orders in (
            ("accuracy", (["b", "a", "c"], ["a", "b", "c"])),  # what has none comes last
            ("bytes", (["a", "c", "b"], ["b", "c", "a"])),
            ("network", (["a", "b", "c"], ["c", "b", "a"])),
        ):
            button = page.get_by_role("button", name=column, exact=True)
            for order in (*orders, ["b", "a", "c"]):
                button.click()
                assert names(page) == order
        assert page.locator("th[aria-sort]").count() == 0


def test_the_command_is_copied_as_it_is_typed(chromium, path):
    with browser.opened(chromium, path) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.get_by_role("button", name="Copy").click()
        page.get_by_role("button", name="Copied").wait_for()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == "python -m lottery.main '--config=a b.py'"


def test_at_night_the_ink_is_light(chromium, path):
    for scheme, light in (("light", False), ("dark", True)):
        with browser.opened(chromium, path, scheme) as page:
            colours = page.evaluate(
                "[getComputedStyle(document.querySelector('.role-axis-label text')).fill,"
                " getComputedStyle(document.body).color]"
            )
            for colour in colours:
                level = sum(map(int, re.findall(r"\d+", colour)[:3])) / 3
                assert (level > 128) == light


def record(run, network, accuracy, deviation, size, **more):
    about = {"run": run, "network": network, "replicates": 3 if deviation else 1, "bytes": size}
    return {**about, "accuracy_mean": accuracy, "accuracy_deviation": deviation, **more}


RECORDS = [
    record("a_1", "small", 0.7, 0.01, 100),
    record("a_1", "middle", 0.9, 0.01, 400),
    record("a_1", "bad", 0.6, 0.01, 500),
    record("b", "large", 0.95, 0.0, 2000, macs=5),
]


def test_a_survey_filters_switches_and_draws_the_front(chromium, tmp_path):
    path = survey.write(tmp_path, RECORDS, {"accuracy_mean": 1})
    browser.check(chromium, path)
    drawn = ".panel .mark-symbol path"
    with browser.opened(chromium, path) as page:
        page.get_by_label("horizontal axis").select_option("bytes")
        page.wait_for_function(f"document.querySelectorAll('{drawn}').length == 4")
        front = page.locator(".panel .mark-line path").first.get_attribute("d")
        assert len(re.findall("[ML]", front)) == 3  # small, middle, large
        page.get_by_label("filter").fill("a_1 m")
        page.wait_for_function(f"document.querySelectorAll('{drawn}').length == 2")
        assert names(page) == ["a_1", "a_1"]
        with page.expect_download() as saved:
            page.get_by_role("button", name="Save as CSV").click()
        rows = list(csv.reader(saved.value.path().read_text().splitlines()))
        assert [row[1] for row in rows] == ["network", "small", "middle"]
        page.get_by_label("filter").fill("")
        page.get_by_role("button", name="b", exact=True).click()
        page.wait_for_function(f"document.querySelectorAll('{drawn}').length == 3")


def test_the_files_of_a_survey_are_its_table(tmp_path):
    survey.write(tmp_path, RECORDS, {"accuracy_mean": 1})
    with (tmp_path / "networks.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["accuracy_mean"]) for row in rows] == [0.7, 0.9, 0.6, 0.95]
    lines = (tmp_path / "networks.tex").read_text().splitlines()
    assert lines[0] == r"\begin{tabular}{llrrrr}"
    assert lines[2] == r"run & network & accuracy & multiply-adds & bytes & replicates \\"
    assert lines[4] == r"a\_1 & small & 0.7000$\pm$0.0100 &  & 100 & 3 \\"
    assert lines[7] == r"b & large & 0.9500 & 5 & 2,000 & 1 \\"


def test_runs_of_other_kinds_are_refused(tmp_path):
    config = {"command": "nonsense", "config": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(Exception, match="a run of nonsense, which has no networks to compare"):
        compare.compare([tmp_path])
