"""The control that costs nothing: logits divided by a temperature (Guo et al., 2017, arXiv 1706.04599)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from nvreg.methods.method import Batch, Method
from nvreg.metrics import METRICS
from nvreg.metrics.temperature import softening
from nvreg.parameters import Parameter, Setting

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from nvreg.config import Evaluation
    from nvreg.diagnostics import Record
    from nvreg.prior.artefact import Prior
    from nvreg.tasks import Task


class OutputTemperatureSetting(Setting):
    """``output_temperature``: what logits are divided by."""

    parameters: ClassVar = {
        "output_temperature": Parameter(
            1.0,
            "a number from 1e-15 to 1e15",
            lambda v: 1e-15 <= v <= 1e15,
            logarithmic=True,
            by_role=False,
        )
    }


class OutputTemperature(Method):
    """Logits of the vocabulary, or of the classes, divided by a temperature.

    It acts on the logits that the model returns, after a cap or bias of its own (Gemma 2's, Marian's). A loss
    that the model computes from labels is not changed. A model that chooses one of several classes runs once
    for all temperatures, as its logits are remembered. No plain checkpoint can hold a temperature: where the
    head is tied to the embeddings, or its logits are capped, dividing its weights is something else.
    """

    name = "output-temperature"
    setting_type = OutputTemperatureSetting
    space = None

    @classmethod
    def unchanged(cls, task: type[Task[Any]], evaluation: Evaluation) -> frozenset[str]:
        """Return the metrics of the highest logit: of classes, and of text that is generated greedily.

        Of two answers that are texts another one may be the likelier: one token can outweigh many.
        """
        has_classes, is_greedy = task.label_column is not None, evaluation.generation.num_beams == 1
        return frozenset(
            name
            for name in evaluation.metrics
            if (has_classes and METRICS[name].group in ("classes", "entities"))
            or (is_greedy and METRICS[name].is_of_generated_text)
        )

    def attach_(self, model: PreTrainedModel, prior: Prior | None, sample: Sequence[Batch]) -> None:
        """Register a hook on what the model returns, and remember that of classes (see `Method.attach_`)."""
        from nvreg.models.class_logits import RememberedClassLogits

        self._temperature = 1.0
        self._remembered = RememberedClassLogits(model)

        def divide(module: Any, args: Any, output: Any) -> None:
            if self._temperature != 1:
                output.logits = output.logits / self._temperature

        self._hook = model.register_forward_hook(divide)

    def set_(self, model: PreTrainedModel, setting: Setting) -> None:
        """Set the temperature."""
        self._temperature = setting.value("output_temperature")

    def detach_(self, model: PreTrainedModel) -> None:
        """Remove the hook, and forget what the model returned."""
        self._hook.remove()
        self._remembered.revert()

    def strength(self, setting: Setting, record: Record) -> float:
        """Return the logarithm of the temperature, 0 where it sharpens."""
        return softening(setting.value("output_temperature"))
