"""What a method is: all that a sweep, its file and a checkpoint need to know of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nvreg.config import Evaluation, Section
from nvreg.parameters import Setting

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from nvreg.attention.settings import Settings
    from nvreg.diagnostics import Record
    from nvreg.models.site import Space
    from nvreg.models.weight_files import WeightFiles
    from nvreg.prior.artefact import Prior
    from nvreg.tasks import Task

Batch = Mapping[str, "Tensor"]


class Method(ABC):
    """A way to change a pretrained model, in place, without training.

    Importing a method imports no torch. Attached at identity, and after `detach_`, the model's outputs are
    those of the pretrained model bit for bit.

    Attributes:
        name: as in experiment files.
        setting_type: the type of its settings.
        options: what an experiment file says of it beside its space; it is made with these as keywords.
        space: where it finds a model's attention, and what the prior that it is given is of; None: it looks
            for no attention, and needs no prior.
        calibrated: parameters that are solved for on a sample of in-domain training text.
        matched_to: the method whose chosen settings it is set beside at the same change of attention outputs.
        is_saved: whether a checkpoint can hold what it does.
        generates: whether a model that it is attached to generates text.
        shares_encoder: whether an encoder returns the same whenever it runs, so that it need not run again.
    """

    name: ClassVar[str]
    setting_type: ClassVar[type[Setting]]
    options: ClassVar[type[Section]] = Section
    space: ClassVar[Space | None] = "inputs"
    calibrated: ClassVar[frozenset[str]] = frozenset()
    matched_to: ClassVar[str | None] = None
    is_saved: ClassVar[bool] = False
    generates: ClassVar[bool] = True
    shares_encoder: ClassVar[bool] = True

    @classmethod
    def named(cls, setting: Setting) -> str:
        """Return a setting with the method's name, which is said once where a parameter has it too."""
        parameter, _, values = str(setting).partition(" ")
        if parameter.startswith(cls.name):
            return str(setting)
        return f"{cls.name} {values if cls.name.endswith(parameter) else setting}"

    @property
    def fingerprint(self) -> str:
        """What decides, beside the setting and the data, what the method does: part of a trial's key."""
        return self.name

    @classmethod
    def unchanged(cls, task: type[Task[Any]], evaluation: Evaluation) -> frozenset[str]:
        """Return the metrics of an evaluation that no setting can change, whatever the model and the data.

        Args:
            task: what the model does.
            evaluation: the metrics, and how text is generated.
        """
        return frozenset()

    def check(self, model: PreTrainedModel) -> None:  # noqa: B027 - most need no more than a prior does
        """Check that the method can be attached to a model, before anything is measured.

        Raises:
            UserError: if it cannot.
        """

    @abstractmethod
    def attach_(self, model: PreTrainedModel, prior: Prior | None, sample: Sequence[Batch]) -> None:
        """Prepare a model, and leave it at identity.

        Args:
            model: as pretrained, in evaluation mode.
            prior: the experiment's, of the method's space; None where it has none.
            sample: teacher-forced batches of in-domain training text; empty where no setting needs them.

        Raises:
            UserError: if the method does not support the architecture.
        """

    @abstractmethod
    def set_(self, model: PreTrainedModel, setting: Setting) -> Settings | None:
        """Set an attached model to a setting, exactly, whatever it was at before.

        Returns:
            The NV settings that the setting stands for on this model, for methods that have such.

        Raises:
            ValueError: if the setting does not fit the model.
        """

    @abstractmethod
    def detach_(self, model: PreTrainedModel) -> None:
        """Undo `attach_`: the pretrained model again."""

    @abstractmethod
    def strength(self, setting: Setting, record: Record) -> float:
        """Return how strongly a setting regularises: 0 at identity.

        Args:
            setting: which.
            record: what attention did with the in-domain validation set, teacher-forced, at this setting.
        """

    def save(self, model: PreTrainedModel, path: Path, like: WeightFiles) -> None:
        """Save an attached model at its setting as a plain checkpoint; called where ``is_saved``.

        Args:
            model: the attached model.
            path: the directory.
            like: how the checkpoint that the model was loaded from keeps its weights.
        """
        like.save(model, path)
