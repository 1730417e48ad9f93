"""BLEU and ROUGE of languages that are written without spaces, or without Latin letters."""

from collections import Counter

import pytest
import sacrebleu.tokenizers.tokenizer_ja_mecab as ja_mecab
from sacrebleu.metrics import BLEU

from nvreg.errors import UserError
from nvreg.metrics import METRICS, Tokenisation, text_statistics
from nvreg.metrics import tokenisation as module
from nvreg.metrics.text import bleu_of
from nvreg.metrics.tokenisation import tokenisation_of, writing_of_language, writing_of_texts

SENTENCES = {
    "Latin": ["Ich mag Katzen, nicht Hunde.", "ein Kater sieht das Haus"],
    "Chinese": ["我喜欢猫和狗。", "今天的天气比昨天好得多。"],
    "Japanese": ["私は猫が好きです。", "東京タワーは高いです。"],
    "Korean": ["나는 고양이와 개를 좋아한다.", "오늘은 어제보다 날씨가 훨씬 좋다."],
    "Thai": ["ฉันชอบแมวและสุนัข", "วันนี้อากาศดีกว่าเมื่อวาน"],
    "Lao": ["ຂ້ອຍມັກແມວແລະໝາ"],
    "Khmer": ["ខ្ញុំចូលចិត្តឆ្មានិងឆ្កែ"],
    "Myanmar": ["ကျွန်တော်ကြောင်နှင့်ခွေးကိုကြိုက်တယ်"],
    "Tibetan": ["ང་ཞི་མི་དང་ཁྱི་ལ་དགའ།"],
    "Cyrillic": ["Я люблю кошек и собак больше всего."],
    "Devanagari": ["मुझे बिल्लियाँ और कुत्ते बहुत पसंद हैं"],
    "Arabic": ["أحب القطط والكلاب كثيرا جدا"],
}
each_writing = pytest.mark.parametrize("writing", SENTENCES)


def score(name, predictions, references, tokenisation):
    rows = text_statistics(name, predictions, references, tokenisation)
    return float(METRICS[name].score(rows))


@each_writing
def test_identical_sentences_score_the_most_whatever_their_writing(writing):
    texts = SENTENCES[writing]
    assert writing_of_texts(texts) == writing
    chosen = tokenisation_of(writing)
    assert score("bleu", texts, texts, chosen) == pytest.approx(100)
    for rouge in ("rouge1", "rouge2", "rougeL", "rougeLsum"):
        assert score(rouge, texts, texts, chosen) == pytest.approx(1)


@pytest.mark.parametrize(
    ("writing", "tokenizer"), [("Chinese", "zh"), ("Thai", "char"), ("Cyrillic", "13a"), ("Latin", "13a")]
)
def test_bleu_is_sacrebleus_with_the_tokenizer_of_the_writing(writing, tokenizer):
    references = SENTENCES[writing]
    predictions = [text[: len(text) * 2 // 3] + text[-3:] for text in references]
    expected = BLEU(tokenize=tokenizer)
    assert tokenisation_of(writing).bleu == tokenizer
    assert score("bleu", predictions, references, tokenisation_of(writing)) == pytest.approx(
        expected.corpus_score(predictions, [references]).score
    )
    assert METRICS["bleu"].signature(tokenisation_of(writing)) == str(expected.get_signature())


def test_japanese_and_korean_words_are_mecabs_where_it_is_installed(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert tokenisation_of("Japanese") == Tokenisation("char", "characters")
    assert tokenisation_of("Korean") == Tokenisation("char", "words")
    monkeypatch.setattr(module, "find_spec", lambda name: object())
    assert tokenisation_of("Japanese") == Tokenisation("ja-mecab", "characters")
    assert tokenisation_of("Korean") == Tokenisation("ko-mecab", "words")


def test_a_tokenizer_that_is_not_installed_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(ja_mecab, "MeCab", None)
    bleu_of.cache_clear()
    with pytest.raises(UserError, match=r'got ja-mecab: Japanese .*\(pip install "sacrebleu\[ja\]"\)$'):
        text_statistics("bleu", ["a"], ["a"], Tokenisation("ja-mecab"))


def f1(ours, theirs):
    ours, theirs = Counter(ours), Counter(theirs)
    both = (ours & theirs).total()
    return 2 * both / (ours.total() + theirs.total())


@pytest.mark.parametrize(
    ("rouge", "prediction", "reference", "ours", "theirs"),
    [
        ("words", "Я люблю Кошек!", "я люблю собак", ["я", "люблю", "кошек"], ["я", "люблю", "собак"]),
        ("words", "हिन्दी भाषा", "हिन्दी", ["हिन्दी", "भाषा"], ["हिन्दी"]),
        ("words", "running cats", "run cat", ["running", "cats"], ["run", "cat"]),
        ("characters", "今天好。", "今天很好", list("今天好"), list("今天很好")),
        ("characters", "น้ำ", "น้า", ["น้", "ำ"], ["น้", "า"]),
        ("latin", "Ö running я", "o run", ["run"], ["o", "run"]),
    ],
)
def test_rouge_1_is_the_f_measure_of_what_it_counts(rouge, prediction, reference, ours, theirs):
    found = score("rouge1", [prediction], [reference], Tokenisation(rouge=rouge))
    assert found == pytest.approx(f1(ours, theirs))


def test_signatures_say_how_text_is_cut():
    signatures = {
        name: METRICS["rougeL"].signature(Tokenisation(rouge=name))
        for name in ("latin", "words", "characters")
    }
    assert "|tok:a-z0-9|stem:porter|" in signatures["latin"]
    assert "|tok:unicode-words|stem:no|" in signatures["words"]
    assert "|tok:unicode-characters|stem:no|" in signatures["characters"]
    for name in ("bleu", "length-ratio"):
        assert "|tok:zh|" in METRICS[name].signature(Tokenisation("zh"))


@pytest.mark.parametrize(
    ("name", "writing"),
    [
        ("zh", "Chinese"),
        ("translation.zh", "Chinese"),
        ("zh_CN", "Chinese"),
        ("zho_Hans", "Chinese"),
        ("zh-TW", "Chinese"),
        ("ja", "Japanese"),
        ("jpn_Jpan", "Japanese"),
        ("ko_KR", "Korean"),
        ("tha_Thai", "Thai"),
        ("my", "Myanmar"),
        ("ZH", "Chinese"),
        ("zh-hk", "Chinese"),
        ("zh_Hant_TW", "Chinese"),
        ("my_summary", None),
        ("ja_romaji", None),
        ("de", None),
        ("target", None),
        ("chinese", None),
        ("", None),
    ],
)
def test_languages_are_known_by_their_codes(name, writing):
    assert writing_of_language(name) == writing


@pytest.mark.parametrize(
    ("text", "writing"),
    [
        ("", "Latin"),
        ("12 % ...", "Latin"),
        ("GPU 我们今天测量了这个模型 API", "Chinese"),
        ("the word 猫 means cat", "Latin"),
        ("日本語の中国語", "Japanese"),
        ("中文中文中文中文中文中文の", "Chinese"),
        ("\uff21\uff22\uff23 ｶﾅ", "Latin"),
        ("ｶﾀｶﾅ", "Japanese"),
        ("カー", "Japanese"),
    ],
)
def test_most_letters_decide_the_writing(text, writing):
    assert writing_of_texts([text]) == writing
