from contextlib import suppress

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForSequenceClassification

from nvreg.errors import UserError
from nvreg.finetune import autoencoders
from nvreg.finetune.dropout import dropout_sites, set_rates_
from nvreg.finetune.regularisers.mvcr import MVCR, NAME, MVCROptions
from tests.models.architectures import ARCHITECTURES, Architecture, random_ids
from tests.models.running import each_of, of

WIDTHS = [4, 8, 12]

BERT = next(architecture for architecture in ARCHITECTURES if architecture.name == "bert")

WITHOUT_DROPOUT = {"gemma", "granite", "llama", "mistral", "olmo", "qwen2", "xlm-roberta-xl"}
WITHOUT_DROPOUT |= {"arcee", "cohere", "cwm", "glm", "glm4", "helium", "ministral", "nemotron", "smollm3"}
WITHOUT_DROPOUT |= {"glm4_moe", "granitemoe", "mixtral", "phimoe", "qwen2_moe"}
WITHOUT_DROPOUT |= {"ernie4_5", "ernie4_5_moe", "eurobert", "falcon", "ministral3"}
"""Model types that drop nothing of what their feed-forward network returns."""

UNKNOWN = ("albert", "nllb-moe")
"""Model types whose feed-forward output nvreg does not find."""

of_three = of("bert", "gpt2", "bart")
of_text = pytest.mark.parametrize(
    "architecture",
    each_of(
        each for each in ARCHITECTURES if each.model_type not in {*UNKNOWN, "whisper"}
    ),  # which reads sound
)


def attached(model, **options):
    return MVCR(model, MVCROptions(**{"widths": WIDTHS, **options}), seed=0)


def batch_of(architecture, model):
    inputs = architecture.inputs(model)
    mask = torch.ones_like(inputs["input_ids"])
    mask[0, 5:] = 0
    labels = inputs.get("decoder_input_ids", inputs["input_ids"])
    return {**inputs, "attention_mask": mask, "labels": labels}


def views_of(model):
    return list(model.get_submodule(NAME))


def step(regulariser, rate=0.01):
    regulariser.after_update(rate)


@of_three
@pytest.mark.parametrize("position", ["feed-forward", "layer"])
def test_training_goes_through_the_autoencoders_and_evaluation_does_not(architecture, position):
    model = architecture.build(dtype=torch.float32)
    batch = batch_of(architecture, model)
    expected = model(**batch).logits
    regulariser = attached(model, position=position, layers=[0, 1])
    seen = []
    for views in views_of(model):
        views.register_forward_hook(lambda views, given, out: seen.append((given, out)))
    assert torch.equal(model(**batch).logits, expected)
    assert not seen
    model.train()(**batch)
    assert len(seen) == 2
    for (states, mask), out in seen:
        assert torch.equal(mask, batch["attention_mask"])
        assert states.shape == out.shape == (*batch["input_ids"].shape, 16)
        assert not torch.equal(out, states)
    regulariser.detach_()
    assert torch.equal(model.eval()(**batch).logits, expected)


@of_text
def test_every_architecture_has_layers_to_insert_into(architecture):
    model = architecture.build(dtype=torch.float32)
    for position in ("feed-forward", "layer"):
        regulariser = attached(model, position=position, layers=[0, 1], widths=[4])
        model.train()(**architecture.inputs(model))
        assert all(views.reconstruction_loss() > 0 for views in views_of(model))
        regulariser.detach_()


@of("bert", "bart")
def test_the_feed_forward_output_is_dropped_before_and_after(architecture, monkeypatch):
    """After dense and dropout, before residual and LayerNorm, with a second dropout after it."""
    model = architecture.build(dtype=torch.float32)
    batch = batch_of(architecture, model)
    encoder = model.get_encoder() if architecture.is_encoder_decoder else model.base_model.encoder
    layer = (encoder.layers if architecture.is_encoder_decoder else encoder.layer)[1]
    projection = layer.fc2 if architecture.is_encoder_decoder else layer.output.dense
    norm = layer.final_layer_norm if architecture.is_encoder_decoder else layer.output.LayerNorm
    attached(model, layers=[1], noise=0.0)
    (views,) = views_of(model)
    order = []
    dropout = F.dropout

    def noted(x, p=0.5, training=True, inplace=False):
        if training and p == 0.1:
            order.append("dropout")
        return dropout(x, p, training, inplace)

    monkeypatch.setattr(F, "dropout", noted)
    projection.register_forward_pre_hook(lambda *_: order.clear() or order.append("projection"))
    views.register_forward_hook(lambda *_: order.append("views"))
    norm.register_forward_pre_hook(lambda *_: order.append("norm"))
    result = []
    norm.register_forward_hook(lambda *_: result.append(list(order)))
    model.train()(**batch)
    assert result == [["projection", "dropout", "views", "dropout", "norm"]]


@of(*UNKNOWN)
def test_where_the_feed_forward_output_is_not_known_the_layer_is_asked_for(architecture):
    model = architecture.build(dtype=torch.float32)
    with pytest.raises(
        UserError, match=r"regulariser\.position: expected layer, as the feed-forward output of"
    ):
        attached(model, position="feed-forward", layers=[0], widths=[4])


@of_text
def test_the_second_dropout_is_that_of_what_the_projection_returns(architecture, monkeypatch):
    model = architecture.build(dtype=torch.float32)
    batch = architecture.inputs(model)
    with suppress(UserError):  # of models without dropout
        names = [site.name for site in dropout_sites(model, batch)]
        set_rates_(model, {name: 0.03 if "activation" in name else 0.1 for name in names})
    attached(model, layers=[1], noise=0.0)
    (views,) = views_of(model)
    rates, dropout = [], F.dropout

    def noted(x, p=0.5, training=True, inplace=False):
        rates.append(p)
        return dropout(x, p, training, inplace)

    monkeypatch.setattr(F, "dropout", noted)
    second = []
    views.register_forward_pre_hook(lambda *_: second.append(rates[-1]))
    model.train()(**batch)
    assert second == [0.0 if architecture.model_type in WITHOUT_DROPOUT else 0.1]


def test_no_layer_is_left_out_while_its_states_are_needed():
    bart = next(architecture for architecture in ARCHITECTURES if architecture.name == "bart")
    config = {**bart.config, "encoder_layerdrop": 1.0}
    model = Architecture("bart", "bart", "BartForConditionalGeneration", config).build(dtype=torch.float32)
    regulariser = attached(model, layers=[0, 1])
    model.train()(**batch_of(bart, model)).loss.backward()
    step(regulariser)
    regulariser.detach_()
    assert model.model.encoder.layerdrop == 1.0


@of_three
def test_reconstruction_trains_the_autoencoders_alone(architecture):
    model = architecture.build(dtype=torch.float32)
    regulariser = attached(model, layers=[0, 1])
    batch = batch_of(architecture, model)
    model.train()(**batch)
    before = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
    step(regulariser)
    changed = {name for name, tensor in model.named_parameters() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(name.startswith(f"{NAME}.") for name in changed)
    # All three autoencoders of both sites, whichever positions chose.
    assert {name.rsplit(".autoencoders.")[0] for name in changed} == {f"{NAME}.0", f"{NAME}.1"}
    assert {name.split(".autoencoders.")[1][0] for name in changed} == {"0", "1", "2"}
    assert all(tensor.grad is None for tensor in model.parameters())


def test_the_task_trains_everything():
    model, batch = bert()
    attached(model, layers=[0, 1])
    torch.manual_seed(0)
    model.train()(**batch).loss.backward()
    without = {name for name, tensor in model.named_parameters() if tensor.grad is None}
    assert all(".inner." in name for name in without), "an inner autoencoder that was not drawn"


def test_the_autoencoders_own_rate_is_a_multiple_of_the_current_one():
    model, batch = bert()
    regulariser = attached(model, layers=[0], reconstruction_rate=50.0)
    model.train()(**batch)
    before = views_of(model)[0].autoencoders[0].up.bias.detach().clone()
    step(regulariser, rate=1e-4)
    first = (views_of(model)[0].autoencoders[0].up.bias - before).abs()
    assert first.max().item() == pytest.approx(50 * 1e-4, rel=1e-3)  # Adam's first step is its rate
    model(**batch)
    before = views_of(model)[0].autoencoders[0].up.bias.detach().clone()
    step(regulariser, rate=0.0)
    assert torch.equal(views_of(model)[0].autoencoders[0].up.bias, before)


def test_only_the_autoencoders_are_trained_in_the_warm_up(monkeypatch):
    model, batch = bert()
    regulariser = attached(model, layers=[0], warm_up=0.25)
    monkeypatch.setattr(autoencoders, "draw_views", lambda positions, _: torch.full((positions,), 4))
    trained = []
    for now in range(8):
        regulariser.before_step(now, steps=8)
        model.train()(**batch).loss.backward()
        trained.append(model.base_model.embeddings.word_embeddings.weight.grad is not None)
        assert views_of(model)[0].autoencoders[0].up.bias.grad is not None
        model.zero_grad()
    assert trained == [False, False] + [True] * 6
    assert [regulariser.validates(now, steps=8) for now in (1, 2)] == [False, True]


def test_the_checkpoint_gives_the_outputs_of_the_trained_model_bit_for_bit(tmp_path):
    """In plain Transformers, without a parameter more."""
    model, batch = bert("BertForSequenceClassification")
    plain_names = [name for name, _ in model.named_parameters()]
    regulariser = attached(model, layers=[0, 2])
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(3):
        model.train()(**batch).loss.backward()
        optimiser.step()
        step(regulariser)
        optimiser.zero_grad()
    in_memory = model.eval()(**batch).logits
    regulariser.detach_()
    model.save_pretrained(tmp_path)
    loaded, info = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert [name for name, _ in loaded.named_parameters()] == plain_names
    assert torch.equal(loaded.eval()(**batch).logits, in_memory)


@pytest.mark.parametrize(
    ("depth", "layers"), [(1, [0]), (2, [0, 1]), (6, [0, 5]), (12, [1, 11]), (24, [2, 23])]
)
def test_layers_are_the_same_fractions_of_any_depth(depth, layers):
    config = {**BERT.config, "num_hidden_layers": depth}
    model = Architecture("bert", "bert", "BertForMaskedLM", config).build()
    assert attached(model).describe()["layers"] == layers


def test_widths_are_the_same_fractions_of_any_size():
    model, _ = bert()
    model.config.hidden_size = 768
    assert attached(model, widths=None).describe()["widths"] == [128, 256, 512]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": [0, 3]}, r"regulariser\.layers: expected layers from 0 to 2, got 3"),
        ({"widths": [16]}, r"regulariser\.widths: expected widths from 2 to below the hidden size 16"),
        ({"widths": [4, 1]}, r"regulariser\.widths: expected widths from 2"),
    ],
)
def test_what_does_not_fit_the_model_is_a_clear_error(options, message):
    model, _ = bert()
    names = [name for name, _ in model.named_modules()]
    with pytest.raises(UserError, match=message):
        attached(model, **options)
    assert [name for name, _ in model.named_modules()] == names


def bert(head="BertForMaskedLM"):
    model = Architecture("bert", "bert", head, BERT.config).build(dtype=torch.float32)
    labels = torch.tensor([0, 1, 0]) if "Sequence" in head else random_ids(3, 7)
    return model, {"input_ids": random_ids(3, 7), "labels": labels}
