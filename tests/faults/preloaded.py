"""What every process of this suite has imported before it is forked."""

# ruff: noqa: F401

import accelerate
import datasets
import jinja2
import markdown_it
import matplotlib.backends.backend_agg
import matplotlib.backends.backend_svg
import matplotlib.figure
import transformers.models.auto.modeling_auto
import transformers.models.marian.modeling_marian

import nvreg.cli.export
import nvreg.cli.finetune
import nvreg.cli.fisher
import nvreg.cli.prior
import nvreg.cli.report
import nvreg.cli.sweep
import nvreg.export
import nvreg.finetune.text
import nvreg.finetune.training
import nvreg.report.writing
import nvreg.sweep.runner
import tests.faults.running
