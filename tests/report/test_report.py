"""The whole: from a directory to files."""

import subprocess
import sys

import pandas as pd
import pytest

from nvreg.errors import UserError
from nvreg.report import write_report


def test_tables_and_figure_are_written(small):
    directory = small.write()
    text = write_report(directory)
    assert (directory / "tables/report.md").read_text() == text
    assert (directory / "figures/changes.png").read_bytes().startswith(b"\x89PNG")


def test_the_csv_reads_back_and_agrees_with_the_page(small):
    directory = small.write()
    text = write_report(directory)
    table = pd.read_csv(directory / "tables/scores.csv")
    assert list(table.columns) == [
        "metric", "protocol", "domain", "score", "difference", "low", "high", "trial", "setting",
    ]  # fmt: skip
    cell = table.set_index(["metric", "protocol", "domain"]).loc["nll", "in-domain-tolerance", "talks"]
    assert f"{cell.score:.3f} ({cell.difference:+.3f} [{cell.low:+.3f}, {cell.high:+.3f}])" in text


def test_a_report_can_be_repeated_and_is_the_same(small):
    directory = small.write()
    first = write_report(directory)
    csv = (directory / "tables/scores.csv").read_bytes()
    assert write_report(directory) == first
    assert (directory / "tables/scores.csv").read_bytes() == csv


def test_one_protocol_and_one_format(small):
    directory = small.write()
    text = write_report(directory, protocols=["in-domain"], formats=["csv"])
    assert not (directory / "tables/report.md").exists()
    assert set(pd.read_csv(directory / "tables/scores.csv")["protocol"]) == {"pretrained", "in-domain"}
    assert "oracle" not in text


def test_unknown_protocols_and_formats_are_refused(small):
    directory = small.write()
    with pytest.raises(UserError, match=r"in-domain-tolerance.*received best"):
        write_report(directory, protocols=["best"])
    with pytest.raises(UserError, match="markdown, csv, received pdf"):
        write_report(directory, formats=["csv", "pdf"])
    assert not (directory / "tables").exists()


def test_a_report_needs_no_torch(small):
    directory = small.write()
    script = (
        f"import sys; from pathlib import Path; from nvreg.report import write_report; "
        f"write_report(Path({str(directory)!r})); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
