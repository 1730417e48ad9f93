"""Names of domains."""

from pathlib import Path

import pytest

import nvreg
from nvreg.inspection.domains import domain_names


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["data/news.jsonl.gz", "data/talks.csv"], ["news", "talks"]),
        (["data/news/test.jsonl", "data/talks/test.jsonl"], ["news", "talks"]),
        (["a/news/test.jsonl", "b/news/test.jsonl"], ["a/news/test.jsonl", "b/news/test.jsonl"]),
    ],
)
def test_a_domain_has_the_shortest_name_that_is_its_own(files, names):
    assert domain_names(list(map(Path, files))) == names


def test_a_file_given_twice_is_a_mistake():
    with pytest.raises(nvreg.UserError, match="every data file once"):
        domain_names([Path("news.jsonl")] * 2)
